"""A week of a fleet in virtual time: traffic, replicas that take time to start, and policies that scale them.

Nothing here is imported by the product; the contestant `ours` is the product's own policy and forecast.
"""
