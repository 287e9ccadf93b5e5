"""A study as values: what a user wants of it, its trials, its plan and what it answers.

Here: the words and their arithmetic (replicas, money). Not here: how a search decides (`tuner`), rollouts.
"""
