"""What every store says when something that must be unique or unchanged is not: the fake and the real one alike."""

from __future__ import annotations

from controlplane.domain.ab_tests.ab_test import AbTest
from controlplane.domain.base import ServiceName
from controlplane.domain.errors import Conflict, StaleVersion


def model_is_taken(model: str, *, by: ServiceName) -> Conflict:
    return Conflict(f"'{model}' is served already", why=f"by {by}", allowed="another model name")


def ab_test_is_under_way(other: AbTest) -> Conflict:
    why, allowed = f"{other.test_id} is {other.state.value}", "wait for it, or `fleetune ab stop` it"
    return Conflict(f"{other.service} already has an A/B test under way", why=why, allowed=allowed)


def report_is_taken(report_id: str) -> Conflict:
    return Conflict(f"a load report named '{report_id}' exists", allowed="another report_id")


def setting_is_stale(name: str) -> StaleVersion:
    return StaleVersion(f"setting '{name}' was saved by somebody else", allowed="read it again")
