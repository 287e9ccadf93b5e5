"""The simulated engine: step times, vLLM's scheduler, KV cache, calibration and profiles of measured hardware.

Here: what an engine would do. Not here: what to try next.
"""
