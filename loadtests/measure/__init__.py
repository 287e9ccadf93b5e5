"""Records, streams, percentiles, intervals, stopping: what was measured and how far to believe it.

Here: records in, numbers out. Not here: pages and tables.
"""
