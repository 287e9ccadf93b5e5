"""The next configuration to start: Optuna study, sampler, surrogate, the twin's prior and its bends.

Here: the only door to Optuna. Not here: rates within a trial (`ladder`), what the study concludes (`answer`).
"""
