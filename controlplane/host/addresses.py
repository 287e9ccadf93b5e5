"""Which addresses only this machine can reach, where its own ports are asked, and what is asked over TLS."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

_EVERY = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""What listens on all addresses → where this machine asks it."""


@lru_cache(maxsize=256)
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


def without_port(host: str) -> str:
    """Return the name or address in a Host header, without an IPv6 address's brackets."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def reachable(host: str) -> str:
    """Return the address at which this machine asks what listens on `host`."""
    return _EVERY.get(host, host)


def url_of(host: str, port: int, *, tls: bool = False) -> str:
    """Return the URL at which this machine asks what listens there."""
    at = reachable(host)
    return f"{'https' if tls else 'http'}://{f'[{at}]' if ':' in at else at}:{port}"


def is_tls(url: str) -> bool:
    """Say whether a URL is asked over TLS. httpx reads all trusted certificates for every client that verifies: 20 ms
    of CPU, which a probe of a plain address several times a second does without.
    """
    return url.lower().startswith("https:")
