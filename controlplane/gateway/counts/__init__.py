"""Counting what was asked against limits: in this process, or in a Redis that several gateways share.

Knows lines (a name, a limit, an amount), not keys, tenants or models: those are the stage's (`stages.limits`).
"""
