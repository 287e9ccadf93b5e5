"""`fleetune-embed`: an engine of our own that turns texts into vectors, on a processor.

Here: a model of token vectors, batches, OpenAI's `/v1/embeddings`, health, metrics. Not here: the control plane.
"""
