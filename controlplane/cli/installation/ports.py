"""Is a port ours to take? Asked before anything is started, so that the answer is one clear message."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from controlplane.domain.errors import InvalidInput


def require_free(ports: Mapping[str, int], *, host: str) -> None:
    """Raise InvalidInput naming every port of `ports` (option → number) that something else listens on."""
    taken = [f"{option} {port}" for option, port in ports.items() if not is_free(host, port)]
    if taken:
        raise InvalidInput(
            f"port in use: {', '.join(taken)}", why=f"something else listens on {host}", allowed="any free port"
        )


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
