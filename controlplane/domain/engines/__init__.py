"""Engines as values: their flags, why one failed, and how each kind is launched, known to be ready, read and spoken to.

Here: `engine.py`, `flags.py`, `fleet.py`; `driver.py` (the words of a kind), a file for each kind, `drivers.py` (all of
them). Not here: processes, HTTP.
"""
