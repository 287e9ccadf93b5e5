"""Models that somebody else's catalogue keeps (MLflow): what moves there comes here, what became of it goes back.

Here: the pass beside the controller, which does both. Not here: canaries (the registry's aliases start them).
"""
