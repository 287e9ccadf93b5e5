"""The gateway's words and rules: who asks, what may pass, what is kept, who is next, and what a record of it means.

Here: identity, limits, privacy, caching, queues, routing table, records. Not here: sockets, HTTP, bytes of a stream.
"""
