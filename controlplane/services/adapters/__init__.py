"""LoRA adapters of served models: what people want of them, and what replicas have loaded.

Here: load, canary by share, promote, take back, unload; the passes that make every replica have what is wanted and
that judge a canary. Not here: which version a request gets (the gateway, by the table of `services.fleet`).
"""
