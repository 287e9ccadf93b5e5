"""Which addresses only this machine can reach, and which are asked over TLS."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Say whether a host (a name or an address, brackets allowed) is this machine itself: all of 127.0.0.0/8, ::1."""
    bare = host.removeprefix("[").removesuffix("]")
    if bare.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def is_tls(url: str) -> bool:
    """Say whether a URL is asked over TLS. httpx reads all trusted certificates for every client that verifies: 20 ms
    of CPU, which a probe of a plain address several times a second does without.
    """
    return url.lower().startswith("https:")
