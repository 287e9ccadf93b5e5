"""What every store says when something that must be unique or unchanged is not: the fake and the real one alike."""

from __future__ import annotations

from controlplane.domain.base import ServiceName
from controlplane.domain.errors import Conflict, StaleVersion


def model_is_taken(model: str, *, by: ServiceName) -> Conflict:
    return Conflict(f"'{model}' is served already", why=f"by {by}", allowed="another model name")


def report_is_taken(report_id: str) -> Conflict:
    return Conflict(f"a load report named '{report_id}' exists", allowed="another report_id")


def setting_is_stale(name: str) -> StaleVersion:
    return StaleVersion(f"setting '{name}' was saved by somebody else", allowed="read it again")
