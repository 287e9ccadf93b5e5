"""An OpenAI-compatible engine that behaves like vLLM on given hardware, driven by the twin.

Here: a process with vLLM's flags, API and metrics. Not here: how fast the hardware is (`tuner.twin`).
"""
