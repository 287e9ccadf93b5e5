"""Doors side by side: our gateway, LiteLLM's proxy and Envoy before the same stub engine. Started by `gateway.py`."""
