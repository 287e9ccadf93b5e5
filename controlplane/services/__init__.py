"""Use cases: load, make the saved state true, think, save once. One room an idea.

Here: what people, schedules and the controller do. Not here: HTTP, SQL, processes (adapters), or policy without I/O
(domain).
"""
