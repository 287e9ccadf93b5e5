"""What the drills of aborts publish, and what their traffic writes."""

from __future__ import annotations

from pathlib import Path

from benchmarks.abort_times import CANARY_PERCENT, Traffic, line
from controlplane.domain.base import RevisionId
from controlplane.domain.door.routing import GatewayRecord

STABLE, CANARY = RevisionId("stable"), RevisionId("canary")


def test_the_middle_the_slow_end_and_the_worst_of_the_drills_are_named() -> None:
    assert line("took", [0.1 * number for number in range(1, 22)]) == "took: P50 1.100, P95 2.000, max 2.100 s"


def test_half_of_the_canary_s_requests_fail_while_it_fails_and_none_of_stable_s(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    traffic = Traffic(path, STABLE, CANARY, rate_rps=1000)
    traffic.write(400)
    assert traffic.failed_at is None
    traffic.failing = True
    traffic.write(400)
    records = [GatewayRecord.model_validate_json(each) for each in path.read_text().splitlines()]
    canary = [record for record in records if record.revision == CANARY]
    assert len(canary) == 800 * CANARY_PERCENT // 100
    assert [record.status for record in records if record.status != 200] == [503] * 10
    assert all(record.revision == CANARY for record in records if record.status == 503)
    assert traffic.failed_at is not None
