"""A canary as values and rules: `rollout` says what stands, `rollout_policy` what is next, `judge` the verdict.

Here: steps, arms, bounds, guards. Not here: studies, engines, anything that reads or writes.
"""
