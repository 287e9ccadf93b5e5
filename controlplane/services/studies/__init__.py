"""One study from creation to recommendation: `manage` is the door, `run_study` the loop, `run_trial` one engine.

Here: steps that measure and record. Not here: what to do next and what it all says (`tuner.answer`), rollouts.
"""
