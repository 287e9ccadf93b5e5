"""The vocabulary and pure policy: values in, values out; time and chance are arguments.

Here: pydantic and the standard library; what every room speaks of lies at the top (service, revision, SLO, …),
the rest in a room for each idea (`engines`, `studies`, `rollouts`, `door`, `operations`). Not here: files, clocks.
"""
