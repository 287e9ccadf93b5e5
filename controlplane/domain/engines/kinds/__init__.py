"""One file for each kind of engine: its driver, as a value.

Not here: what a driver may say (`driver.py`), which kind has which (`drivers.py`),
flags of versions (`tuner/space/knobs`).
"""
