"""Reports, pages and tables of load tests and traces.

Here: figures as people read them. Not here: sending or measuring.
"""
