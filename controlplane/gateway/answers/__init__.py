"""Answers that are kept to be given again: in memory, or in a Redis that several gateways share.

Here: the entry, the stores, collecting an answer on its way. Not here: which may be kept (`domain.door.caching`).
"""
