"""LoRA adapters of served models: what people want of them, and what replicas have loaded.

Here: load, canary by share, promote, take back, unload; the pass that makes every replica have what is wanted. Not
here: which version a request gets (the gateway, by the table of `services.fleet`).
"""
