"""From everything measured to the cheapest fleet that holds, how sure that is, and what to measure next for it.

Here: pure decisions over a study's trials. Not here: proposing configurations (`search`).
"""
