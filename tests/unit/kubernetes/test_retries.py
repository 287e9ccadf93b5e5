"""Guarded writes are tried again for a second at most, and who overtook the last is named."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.adapters.fleet_kubernetes.retries import ATTEMPTS, attempts, overtaken

OURS = {"manager": "fleetune", "operation": "Apply", "time": "2026-11-30T08:00:05Z"}
SCALER = {"manager": "keda-operator", "operation": "Update", "time": "2026-11-30T08:00:01Z"}
STATUS = {"manager": "kube-controller-manager", "subresource": "status", "time": "2026-11-30T08:00:03Z"}


def written_by(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "chat", "managedFields": list(entries)}}


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_all_attempts_together_wait_between_a_third_of_a_second_and_a_little_more_than_one(chance: float) -> None:
    pauses: list[float] = []
    assert list(attempts(pauses.append, lambda: chance)) == list(range(ATTEMPTS))
    assert 0.3 < sum(pauses) < 1.2
    assert pauses == sorted(pauses)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (written_by(STATUS, SCALER, OURS), "kube-controller-manager (its status)"),
        (written_by(SCALER, OURS), "keda-operator"),
        (written_by(OURS), "somebody else"),
        ({"metadata": {"name": "chat"}}, "somebody else"),
        (None, "somebody else"),
    ],
)
def test_who_wrote_last_beside_us_is_named(value: dict[str, Any] | None, said: str) -> None:
    assert overtaken(value) == f"{said} wrote to it before each of {ATTEMPTS} attempts; it is tried again"
