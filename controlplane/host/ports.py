"""Ports of this machine: is one free, and which one is."""

from __future__ import annotations

import errno
import os
import random
import socket
from collections import deque
from collections.abc import Collection

from controlplane.domain.errors import InvalidInput, Unavailable

_PORTS = range(20000, 32000)
"""Below Linux's ephemeral ports (32768 on): no outgoing connection can take one before its owner binds it."""
_TRIES = 1000
_MARKS = 16
"""So many ports that this process gave out last are given to nobody else: their owners may not listen yet."""
_marks: deque[int] = deque()


def free_port(host: str = "127.0.0.1", *, taken: Collection[int] = ()) -> int:
    """Return a port nobody listens on, that is not in `taken` and that no process here was given a moment ago.

    Raises InvalidInput when the host is not this machine's, Unavailable when no port is free.
    """
    left = [port for port in _PORTS if port not in taken]
    for port in random.sample(left, min(_TRIES, len(left))):
        if is_free(host, port) and _mark(host, port):
            return port
    raise Unavailable(f"no port is free on {host}", why=f"those from {_PORTS.start} to {_PORTS.stop - 1} are in use")


def _mark(host: str, port: int) -> bool:
    """Hold a port by its namesake of UDP, of which no engine knows; False when somebody holds it."""
    probe = socket.socket(_family(host), socket.SOCK_DGRAM)
    try:
        probe.bind((host, port))
    except OSError as error:
        probe.close()
        return error.errno != errno.EADDRINUSE
    _marks.append(probe.detach())
    if len(_marks) > _MARKS:
        os.close(_marks.popleft())
    return True


def loopback() -> str:
    """Return the loopback address of this machine: 127.0.0.1, or ::1 where there is no IPv4."""
    try:
        return "127.0.0.1" if is_free("127.0.0.1", 0) else "::1"
    except InvalidInput:
        return "::1"


def is_free(host: str, port: int) -> bool:
    """Say whether `port` can be listened on now. Raises InvalidInput when the host is not this machine's."""
    with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what ended a moment ago is no obstacle
        try:
            probe.bind((host, port))
            probe.listen()
        except socket.gaierror as error:
            raise InvalidInput(f"nothing can listen on {host}", why=error.strerror or str(error)) from error
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EACCES, errno.EAFNOSUPPORT):
                raise InvalidInput(f"nothing can listen on {host}", why=error.strerror or str(error)) from error
            return False
    return True


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
