"""What keeps watch over services that run: alerts and what they lead to.

May use studies, rollouts and fleets. Not here: what runs in the controller's pass.
"""
