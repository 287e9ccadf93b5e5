"""The data plane: one process that authenticates, chooses, relays and records requests.

Here: the way of a request. Not here: who decides the table (`services.fleet.routing`).
"""
