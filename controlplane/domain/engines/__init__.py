"""Kinds of engines: how each is launched, known to be ready, read, diagnosed and spoken to, as plain values.

Here: `driver.py` (the words), a file for each kind, `drivers.py` (which kind has which). Not here: processes, HTTP.
"""
