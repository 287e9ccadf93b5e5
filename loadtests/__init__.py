"""Open-loop load: what is sent and when (`send`), what came back (`measure`), what it says (`report`).

Here: load tests against any OpenAI-compatible endpoint. Not here: what a rate means for a fleet (`tuner`).
"""
