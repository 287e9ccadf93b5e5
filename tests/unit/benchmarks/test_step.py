"""How long an SLO is missed after a step, by the gateway's records."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

from benchmarks.figures import keep
from benchmarks.step import Round, figures, missed_for_s
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.slo import LatencyMetric, LatencySlo
from tests.builders_serving import NOW

LIMITS = (LatencySlo(metric=LatencyMetric.TTFT, percentile=90, limit_ms=1000),)


def record(at_s: float, ttft_ms: float | None, status: int = 200) -> GatewayRecord:
    return GatewayRecord(
        id=f"r{at_s}",
        at=NOW + timedelta(seconds=at_s),
        gateway="gw-1",
        service="chat",
        model="m",
        revision=None,
        engine_id="e-1",
        path="/v1/chat/completions",
        stream=True,
        status=status,
        error=None if status == 200 else "upstream_5xx",
        ttft_ms=ttft_ms,
        e2e_ms=2000,
    )


def steady(until_s: int, slow: range) -> list[GatewayRecord]:
    return [record(second / 4, 3000 if second // 4 in slow else 100) for second in range(-40, 4 * until_s)]


def test_the_slo_is_missed_until_the_end_of_the_last_five_seconds_of_which_too_many_missed_it() -> None:
    assert missed_for_s(steady(60, range(3, 18)), LIMITS, NOW) == 20
    assert missed_for_s(steady(60, range(0)), LIMITS, NOW) == 0


def test_what_was_missed_before_the_step_is_not_its_doing() -> None:
    assert missed_for_s(steady(60, range(-10, 0)), LIMITS, NOW) == 0


def test_a_tenth_of_five_seconds_may_miss_and_a_failed_request_is_a_miss() -> None:
    well = steady(60, range(0))
    some = [*well, record(31.1, 3000), record(31.2, None, status=502)]
    assert missed_for_s(some, LIMITS, NOW) == 0
    assert missed_for_s([*some, record(31.3, None, status=502)], LIMITS, NOW) == 35


def test_each_round_is_kept_as_it_ends(tmp_path: Path) -> None:
    kept = tmp_path / "step.json"
    for known in ([Round(20, 12, 42, 3, 70)], [Round(20, 12, 42, 3, 70), Round(50, 12, 42, 3, 80)]):
        keep(figures(known, [], of=3), kept)
        found = json.loads(kept.read_text())
        assert (len(found["rounds"]), found["of_rounds"], found["within"]) == (len(known), 3, 1)
