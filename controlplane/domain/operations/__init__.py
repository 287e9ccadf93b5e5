"""Watching a fleet: what a replica sustains, what live traffic gets, what is to be expected, and what to do about it.

Here: the capacity model, scaling, drift, alerts, cost, health. Not here: judging a canary, where metrics come from.
"""
