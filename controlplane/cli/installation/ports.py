"""Is a port ours to take? Asked before anything is started, so that the answer is one clear message."""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.domain.errors import InvalidInput
from controlplane.host.ports import is_free


def require_free(ports: Mapping[str, int], *, host: str) -> None:
    """Raise InvalidInput naming every port of `ports` (option → number) that something else listens on."""
    taken = [f"{option} {port}" for option, port in ports.items() if not is_free(host, port)]
    if taken:
        raise InvalidInput(
            f"port in use: {', '.join(taken)}", why=f"something else listens on {host}", allowed="any free port"
        )
