"""One rollout: `manage` is what people ask for, `facts` what the policy decides on, `outcomes` what live traffic said.

Here: the way of a canary. Not here: judging and the next step (`domain.rollouts`), studies, engines.
"""
