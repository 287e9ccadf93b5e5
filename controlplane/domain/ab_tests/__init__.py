"""A/B tests as values and rules: what is asked, what each user says of each arm, and what is certain of it.

Here: metrics, users' means, bounds, the plan, the next state. Not here: who routes, starts engines, reads records.
"""
