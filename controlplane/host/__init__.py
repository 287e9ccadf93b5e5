"""What every process needs from its machine, once: files kept whole, ports, addresses, clocks, process identities.

Here: small functions on the operating system. Not here: engines, gateways, settings; nothing that knows a use case.
"""
