"""`fleetune`: one file a noun or task; `main` puts them together.

Here: arguments, and which use case they call. Not here: how answers are printed (`tables`), supervised processes
(`installation`).
"""
