"""The emulator in the clothes of another engine: its command line, refusals, metrics page and requests, for tests.

Here: what a shipped flag file and a driver tell of it. Not here: how fast it is (the twin is vLLM's, and stays so).
"""
