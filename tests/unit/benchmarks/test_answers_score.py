"""What counts as a win that was missed."""

from __future__ import annotations

import pytest

from controlplane.domain.studies.capacity import FleetSize
from tests.unit.benchmarks.test_answers import KnownTruth, judged, study


@pytest.mark.parametrize(("usd", "missed"), [(5.0, False), (8.0, False), (10.0, True)])
def test_a_fleet_of_the_baseline_s_believed_size_is_no_missed_win_where_that_is_truly_cheaper(
    usd: float, missed: bool
) -> None:
    """The baseline truly needs 10 USD per hour, a fleet of 5 exists."""
    ended = study(answer="same_fleet_more_capacity", fleet=FleetSize(replicas=1, gpus=1, usd_per_hour=usd))
    assert judged(KnownTruth(), ended).missed_win is missed
    assert judged(KnownTruth(holds=False, needs_usd=10.0), ended).missed_win
    assert not judged(KnownTruth(), ended).false_win
