"""The highest rate at the SLO within one engine life: the next rate, a level's verdict, a twin fitted to the levels.

Here: one trial's thinking. Not here: comparing trials (`answer`).
"""
