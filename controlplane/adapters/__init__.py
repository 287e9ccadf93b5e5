"""One technology per port, named `<port>_<technology>`; a folder when it is more than a file.

Here: what speaks to processes, databases, gateways, Locust. Not here: decisions; and no adapter knows another.
"""
