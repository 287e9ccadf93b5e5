"""The controller's pass over everything: `reconcile`, and the `jobs` that fall due.

Here: the order of one pass; the only room that knows all others. Not here: any decision of a single room.
"""
