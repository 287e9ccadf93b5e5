"""The stages of a request's way, one file each, in the order that `gateway.pipeline` gives them.

Here: what one stage does to one request. Not here: sockets, the routing table, other stages.
"""
