"""Capacity with shared prefixes: what the twin predicts against what an emulated, or a real, engine sustains."""
