"""Until when certificates that a gateway shows are good; files renewed while it serves count once they are usable."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from controlplane.gateway.settings import GatewaySettings
from controlplane.gateway.tls import of_server


class Certificates:
    """By whom they are shown to. What cannot be read is left out, at first; later the former end stays."""

    def __init__(self, settings: GatewaySettings) -> None:
        named = {"clients": settings.tls, "control-plane": settings.admin_tls, "engines": settings.engine_tls.own}
        files = {shown_to: each for shown_to, each in named.items() if each is not None}
        self._paths = {shown_to: each.certificate for shown_to, each in files.items()}
        self._renewed = {shown_to: of_server(each) for shown_to, each in files.items()}
        self._ends = {shown_to: _first_end(path) for shown_to, path in self._paths.items()}

    def ends(self) -> Mapping[str, datetime]:
        """Return the first end within each file's chain. A file that does not go with its key is not in use."""
        for shown_to, renewed in self._renewed.items():
            if renewed.take():
                self._ends[shown_to] = _first_end(self._paths[shown_to]) or self._ends[shown_to]
        return {shown_to: end for shown_to, end in self._ends.items() if end is not None}


def _first_end(path: Path) -> datetime | None:
    from cryptography.x509 import load_pem_x509_certificates  # most gateways serve plain HTTP

    try:
        return min(each.not_valid_after_utc for each in load_pem_x509_certificates(path.read_bytes()))
    except (OSError, ValueError):
        return None
