"""Reading the gateways' audit logs from the data folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from controlplane.domain.door.audit import Broken, Verified, verify
from controlplane.domain.door.gateway_files import audit_dir, audit_files, audited_gateways
from controlplane.domain.errors import NotFound, Unavailable


def audited(data_dir: Path) -> list[str]:
    """Return the names of the gateways that have a log. Raises NotFound when there is none."""
    names = audited_gateways(audit_dir(data_dir))
    if not names:
        raise NotFound(
            f"no audit log in {audit_dir(data_dir)}", allowed="`fleetune up --audit-days N` keeps one from then on"
        )
    return names


def audit_lines(data_dir: Path, gateway: str) -> Iterator[tuple[str, bytes]]:
    """Yield the lines of a gateway's log, oldest first, each with its place. Raises Unavailable."""
    for path in audit_files(audit_dir(data_dir), gateway):
        try:
            with path.open("rb") as file:
                yield from ((f"{path.name}:{number}", line.rstrip(b"\n")) for number, line in enumerate(file, 1))
        except OSError as error:
            raise Unavailable(f"the audit log {path} cannot be read", why=str(error.strerror)) from error


def verified(data_dir: Path, gateway: str) -> Verified | Broken:
    """Check a gateway's log."""
    return verify(audit_lines(data_dir, gateway))
