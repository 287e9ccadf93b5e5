"""What keeps watch over services that run: alerts and what they lead to.

May use studies, rollouts and fleets. Not here: how many replicas there are (`fleet.autoscale`).
"""
