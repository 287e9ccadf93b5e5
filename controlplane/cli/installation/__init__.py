"""The processes of one installation: started, supervised, stopped.

Here: `up`, `down` and what they need of the host. Not here: what the processes do.
"""
