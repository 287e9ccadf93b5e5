"""Stopping early: error rates by simulation, seeded."""

from __future__ import annotations

import heapq
import random
from functools import cache

import pytest

from controlplane.domain.report import RequestRecord
from controlplane.domain.slo import LatencyMetric, LatencySlo
from loadtests.measure.stopping import SaturationDetector, VerdictWatch
from loadtests.send.runner import Progress

LIMIT = LatencySlo(metric=LatencyMetric.TTFT, percentile=90, limit_ms=100)


@cache  # the same hundred thousands of times
def record(index: int, ttft_ms: float) -> RequestRecord:
    return RequestRecord(
        index=index,
        scheduled_s=index,
        lag_ms=0,
        prompt_tokens=1,
        output_tokens=1,
        wanted_tokens=1,
        ttft_ms=ttft_ms,
        status=200,
    )


def verdict_of(miss_ratio: float, chance: random.Random, *, n: int = 600) -> str | None:
    watch, records = VerdictWatch([LIMIT]), []
    for index in range(n):
        records.append(record(index, 200 if chance.random() < miss_ratio else 50))
        if index % 10 == 0 and (reason := watch(Progress(index * 0.01, index, 0, records))):
            return reason
    return None


@pytest.mark.parametrize(("miss_ratio", "wrong"), [(0.099, "misses"), (0.101, "meets")])
def test_wrong_verdicts_near_the_limit_are_rarer_than_alpha(miss_ratio: float, wrong: str) -> None:
    chance = random.Random(11)
    wrong_verdicts = sum(wrong in (verdict_of(miss_ratio, chance) or "") for _ in range(150))
    assert wrong_verdicts / 150 <= 0.05


@pytest.mark.parametrize(("miss_ratio", "right"), [(0.3, "misses"), (0.01, "meets")])
def test_clear_cases_end_early(miss_ratio: float, right: str) -> None:
    chance = random.Random(12)
    ended = sum(right in (verdict_of(miss_ratio, chance) or "") for _ in range(50))
    assert ended >= 48


def test_requests_without_an_answer_forbid_a_pass() -> None:
    good = [record(index, 50) for index in range(400)]
    assert VerdictWatch([LIMIT])(Progress(4, 500, 100, good)) is None
    assert VerdictWatch([LIMIT])(Progress(4, 400, 0, good)) == "certainly meets every limit"


def alarms(load: float, chance: random.Random, *, servers: int = 20, seconds: float = 60) -> bool:
    """Simulate an M/M/c queue with mean service 1 s, looked at every half second, from empty."""
    detector, ends = SaturationDetector(), [0.0] * servers
    heapq.heapify(ends)
    leaving: list[float] = []
    at = look = 5.0
    while at < seconds:
        at += chance.expovariate(load * servers)
        heapq.heappush(leaving, (finish := max(at, heapq.heappop(ends)) + chance.expovariate(1)))
        heapq.heappush(ends, finish)
        while leaving and leaving[0] <= at:
            heapq.heappop(leaving)
        if at >= look + 0.5:
            look = at
            if at > 15 and detector.grows(at, len(leaving)):  # past the warm-up
                return True
    return False


def test_stable_targets_raise_an_alarm_in_at_most_a_few_of_a_hundred_runs() -> None:
    chance = random.Random(13)
    assert sum(alarms(load, chance) for load in (0.5, 0.8, 0.9) for _ in range(70)) / 210 <= 0.05


def test_overloaded_targets_are_found() -> None:
    chance = random.Random(14)
    assert sum(alarms(1.5, chance) for _ in range(60)) / 60 >= 0.9
