"""The replicas of a service: `serving` is what people ask for, `world` what is wanted, `engines` makes it so.

Here: what runs and what traffic reaches it. Not here: why a revision is wanted (rollouts, studies).
"""
