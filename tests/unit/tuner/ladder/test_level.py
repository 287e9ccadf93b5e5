"""Judging a level while it runs: certain ends early, uncertain ends at its time, invalid is no score."""

from __future__ import annotations

import re

import numpy as np

from controlplane.domain.report import LoadTestReport, RequestRecord
from controlplane.domain.slo import LatencyMetric, LatencySlo, SloSet
from controlplane.domain.studies.tuning_options import LevelOptions
from loadtests.measure.records import RecordTable
from loadtests.report.report import Measured, build_report
from tuner.ladder.level import LevelJudge, Looks

SLO = LatencySlo(metric=LatencyMetric.TTFT, percentile=90, limit_ms=500)
SLOS = SloSet(latency=(SLO,), target_qps=10, max_error_ratio=0.1)
OPTIONS = LevelOptions(min_s=10, max_s=60, warmup_s=0)


def record(index: int, ttft_ms: float, *, error: str | None = None) -> RequestRecord:
    return RequestRecord(
        index=index,
        scheduled_s=index / 10,
        lag_ms=0,
        prompt_tokens=10,
        output_tokens=5,
        wanted_tokens=5,
        ttft_ms=ttft_ms,
        e2e_ms=ttft_ms + 100,
        error=error,
    )


def report(records: list[RequestRecord], **changes: object) -> LoadTestReport:
    n = len(records)
    table = RecordTable(
        index=np.arange(n),
        scheduled_s=np.array([r.scheduled_s for r in records]),
        lag_ms=np.zeros(n),
        prompt_tokens=np.full(n, 10),
        output_tokens=np.full(n, 5),
        ttft_ms=np.array([r.ttft_ms or np.nan for r in records]),
        tpot_ms=np.full(n, 10.0),
        e2e_ms=np.array([r.e2e_ms or np.nan for r in records]),
        max_itl_ms=np.full(n, 10.0),
        status=np.full(n, 200),
        cancelled=np.zeros(n, dtype=np.bool_),
        error=np.array([r.error or "" for r in records], dtype=np.str_),
    )
    run = Measured("url", rate_rps=10, duration_s=60, warmup_s=0, time_lapse=1, seed=0, slos=(SLO,))
    return build_report(run, table, np.empty(0)).evolve(**changes)


def watch(judge: LevelJudge, records: list[RequestRecord], in_flight: list[int], *, until_s: int = 60) -> str | None:
    for quarter in range(1, 4 * until_s + 1):
        second = quarter / 4
        count = in_flight[min(int(second), len(in_flight) - 1)]
        reason = judge.watch(Looks(second, count, records[: int(second * 10)]))
        if reason is not None:
            return reason
    return None


def test_a_level_that_misses_clearly_ends_within_seconds() -> None:
    judge = LevelJudge(SLOS, OPTIONS)
    reason = watch(judge, [record(i, 900) for i in range(600)], [3], until_s=11)
    assert reason is not None
    assert "certainly misses P90 TTFT" in reason


def test_nothing_is_certain_in_the_first_seconds_of_a_level() -> None:
    judge = LevelJudge(SLOS, OPTIONS, planned=600)
    assert watch(judge, [record(i, 900) for i in range(600)], [3], until_s=9) is None


def test_the_first_seconds_are_those_after_the_warm_up() -> None:
    judge = LevelJudge(SLOS, OPTIONS, planned=600, warmup_s=20)
    assert watch(judge, [record(i, 900) for i in range(600)], [3], until_s=29) is None


def test_a_level_passes_early_only_on_enough_requests() -> None:
    records = [record(i, 100) for i in range(600)]
    assert watch(LevelJudge(SLOS, OPTIONS, enough=299), records, [3], until_s=29) is None
    assert watch(LevelJudge(SLOS, OPTIONS, enough=299), records, [3], until_s=35) == "meets every limit so far"


def test_a_verdict_on_too_few_requests_says_so() -> None:
    judge = LevelJudge(SLOS, OPTIONS, may_pass_early=False, enough=299)
    records = [record(i, 100) for i in range(150)]
    outcome = judge.conclude(report(records))
    assert (outcome.passed, outcome.certain) == (True, False)
    assert "150 requests are fewer than the 299 that a P90 takes to be known" in outcome.reason
    whole = LevelJudge(SLOS, OPTIONS, enough=150).conclude(report(records))
    assert whole.reason == "meets every limit at the time limit"


def test_a_level_that_meets_its_limits_clearly_ends_before_its_time() -> None:
    judge = LevelJudge(SLOS, OPTIONS)
    records = [record(i, 100) for i in range(600)]
    assert watch(judge, records, [3], until_s=40) == "meets every limit so far"
    outcome = judge.conclude(report(records))
    assert (outcome.passed, outcome.certain, outcome.whole) == (True, False, False)
    assert outcome.pressure is not None
    assert outcome.pressure < 0.2


def test_a_level_that_decides_does_not_pass_before_its_time() -> None:
    judge = LevelJudge(SLOS, OPTIONS, may_pass_early=False)
    records = [record(i, 100) for i in range(600)]
    assert watch(judge, records, [3]) is None
    outcome = judge.conclude(report(records))
    assert (outcome.passed, outcome.whole) == (True, True)


def test_a_level_ends_when_more_requests_missed_than_the_whole_of_it_allows() -> None:
    # One in eight misses: too near to one in ten for the bounds, but 64 of the 60 allowed are gone before the end.
    records = [record(i, 900 if i % 8 == 0 else 100) for i in range(600)]
    assert watch(LevelJudge(SLOS, OPTIONS), records, [3], until_s=55) is None
    reason = watch(LevelJudge(SLOS, OPTIONS, planned=600), records, [3], until_s=55)
    assert reason is not None
    assert "certainly misses P90 TTFT" in reason


def test_a_burst_at_the_start_does_not_end_a_level_that_lasts_to_see_bursts_but_too_many_misses_do() -> None:
    burst = [record(i, 900 if i < 55 else 100) for i in range(600)]
    assert "at least" in str(watch(LevelJudge(SLOS, OPTIONS, planned=600, may_pass_early=False), burst, [3]))
    bursty = LevelJudge(SLOS, OPTIONS, planned=600, may_pass_early=False, bursty=True)
    assert watch(bursty, burst, [3]) is None
    assert bursty.conclude(report(burst)).passed
    late = [record(i, 900) for i in range(600)]
    reason = watch(LevelJudge(SLOS, OPTIONS, planned=600, may_pass_early=False, bursty=True), late, [3])
    assert reason is not None
    assert re.search(r"certainly misses P90 TTFT .* \(by \d+ requests\)", reason)


def test_a_limit_missed_by_share_and_by_count_is_named_once() -> None:
    reason = watch(LevelJudge(SLOS, OPTIONS, planned=10), [record(i, 900) for i in range(600)], [3], until_s=11)
    assert reason is not None
    assert "of requests at least" in reason
    assert reason.count("P90 TTFT") == 1


def test_no_level_passes_before_its_least_time() -> None:
    judge = LevelJudge(SLOS, LevelOptions(min_s=50, max_s=60, warmup_s=0))
    assert watch(judge, [record(i, 100) for i in range(600)], [3], until_s=49) is None


def test_a_level_near_its_limit_is_decided_by_the_estimate_at_its_time() -> None:
    records = [record(i, 900 if i % 11 == 0 else 100) for i in range(600)]
    judge = LevelJudge(SLOS, OPTIONS)
    assert watch(judge, records, [3]) is None
    outcome = judge.conclude(report(records))
    assert (outcome.passed, outcome.certain) == (True, False)
    assert outcome.pressure is not None
    assert 0.8 < outcome.pressure < 1


def test_a_queue_that_keeps_growing_fails_the_level_before_latencies_do() -> None:
    judge = LevelJudge(SLOS, OPTIONS)
    reason = watch(judge, [record(i, 100 + 0.6 * i) for i in range(600)], list(range(0, 240, 4)))
    assert reason is not None
    assert reason.startswith("over-saturated")


def test_answers_longer_than_the_level_so_far_are_no_over_saturation() -> None:
    judge = LevelJudge(SLOS, OPTIONS, may_pass_early=False)
    assert watch(judge, [record(i, 100) for i in range(600)], list(range(0, 240, 4))) is None


def test_a_queue_that_only_fluctuates_is_no_over_saturation() -> None:
    records = [record(i, 900 if i % 11 == 0 else 100) for i in range(600)]
    wobbling = [20 + 6 * ((second * 7) % 5 - 2) for second in range(60)]
    assert watch(LevelJudge(SLOS, OPTIONS), records, wobbling) is None


def test_errors_fail_a_level_even_when_latencies_are_fine() -> None:
    judge = LevelJudge(SLOS, OPTIONS)
    records = [record(i, 100, error="http" if i % 2 else None) for i in range(600)]
    reason = watch(judge, records, [3], until_s=11)
    assert reason is not None
    assert "error ratio" in reason


def test_a_late_generator_takes_back_what_seemed_certain_while_the_level_ran() -> None:
    judge = LevelJudge(SLOS, OPTIONS)
    assert watch(judge, [record(i, 900) for i in range(600)], [3], until_s=11) is not None
    outcome = judge.conclude(report([record(0, 900)], validity="invalid", invalid_reason="requests left late"))
    assert (outcome.passed, outcome.certain, outcome.reason) == (False, False, "requests left late")
    assert outcome.pressure is None


def test_an_overloaded_generator_is_neither_pass_nor_certain_fail() -> None:
    outcome = LevelJudge(SLOS, OPTIONS).conclude(report([record(0, 1)], validity="invalid", invalid_reason="lag"))
    assert (outcome.passed, outcome.certain, outcome.reason) == (False, False, "lag")
    assert outcome.pressure is None


def test_a_burst_of_misses_in_the_first_seconds_does_not_fail_the_whole_level() -> None:
    # Six of the first sixteen miss: taken for independent, that excludes one in ten. The rest of the level is fine.
    records = [record(i, 900 if i < 6 else 100) for i in range(600)]
    assert watch(LevelJudge(SLOS, OPTIONS, planned=600, may_pass_early=False), records, [3]) is None
