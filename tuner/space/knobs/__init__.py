"""The flags of each vLLM version, extracted from its sources.

Here: names, types and ranges as data. Not here: which of them are worth varying (`first_tier`).
"""
