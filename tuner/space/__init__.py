"""Which flags vary over which values, and what cannot work: the knobs of an installed engine, first tier, feasibility.

Here: what may be tried. Not here: what to try next (`search`).
"""
