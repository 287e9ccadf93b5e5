"""Builds the adapters and gives them to the use cases: the only module that knows both."""
