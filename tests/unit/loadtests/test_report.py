"""Reports: pooled percentiles, misses, windows, and when a run is invalid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from controlplane.domain.enough import samples_needed
from controlplane.domain.report import LoadTestReport, Validity
from controlplane.domain.slo import LatencyMetric, LatencySlo
from loadtests.measure.intervals import distribution, percentile_of
from loadtests.measure.records import RecordTable
from loadtests.report.report import Measured, build_report

RUN = Measured(target="http://x", rate_rps=10, duration_s=40, warmup_s=0, time_lapse=1, seed=0)
TTFT = LatencySlo(metric=LatencyMetric.TTFT, percentile=99, limit_ms=100)
TPOT = LatencySlo(metric=LatencyMetric.TPOT, percentile=90, limit_ms=20)


def table(n: int = 400, *, every_s: float = 0.1, **columns: Any) -> RecordTable:
    """n good requests, one every `every_s`; `columns` replace whole columns (scalars are repeated)."""
    defaults: dict[str, Any] = {
        "index": np.arange(n),
        "scheduled_s": np.arange(n) * every_s,
        "lag_ms": 0.1,
        "prompt_tokens": 10,
        "output_tokens": 5,
        "ttft_ms": 50.0,
        "tpot_ms": 10.0,
        "e2e_ms": 90.0,
        "max_itl_ms": 10.0,
        "status": 200,
        "cancelled": False,
        "error": "",
    }
    return RecordTable(**{name: np.broadcast_to(np.asarray(value), n) for name, value in (defaults | columns).items()})


def report(records: RecordTable, *, run: Measured = RUN, **changes: Any) -> LoadTestReport:
    return build_report(Measured(**(vars(run) | changes)), records, np.full(5, 10.0))


def late(n: int, count: int, usual: float, slow: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.where(np.arange(n) < count, slow, usual)


def test_counts_and_rates_of_a_good_run() -> None:
    result = report(table(), slos=(TTFT, TPOT))
    assert (result.requests, result.completed, result.errors) == (400, 400, 0)
    assert result.goodput_rps == pytest.approx(10)
    assert result.attainment == 1
    assert result.output_tps == pytest.approx(50, rel=0.01)
    assert result.validity is Validity.VALID
    assert all(check.met for check in result.slo_checks)


def test_a_limits_percentile_has_the_interval_of_the_report() -> None:
    """Requests slow in one queue say less than as many independent ones; both places must know."""
    slow = np.arange(2000) % 400 < 20
    queued = np.where(slow, 90.0, 50.0) + np.arange(2000) % 7
    result = report(table(2000, every_s=0.02, ttft_ms=queued), slos=(TTFT,))
    assert result.slo_checks[0].measured == result.ttft_ms.at(99)


def test_a_limit_on_a_latency_that_no_answer_has_is_not_met_and_not_the_generators_fault() -> None:
    result = report(table(ttft_ms=np.nan, tpot_ms=np.nan), slos=(TTFT, TPOT))
    assert [check.met for check in result.slo_checks] == [False, True]
    assert result.validity is Validity.VALID


def test_warmup_is_left_out_of_the_figures() -> None:
    result = report(table(ttft_ms=late(400, 100, 50, 9000)), warmup_s=10, duration_s=30)
    assert result.requests == 300
    assert result.ttft_ms.percentiles[-1].value == 50


def test_errors_miss_every_limit_and_have_no_latency() -> None:
    error = np.where(np.arange(400) < 8, "truncated", "")
    result = report(table(error=error), slos=(TTFT,))
    assert (result.errors, result.truncated, result.error_counts) == (8, 8, {"truncated": 8})
    assert not result.slo_checks[0].met
    assert result.slo_checks[0].miss_ratio == 0.02
    assert result.ttft_ms.count == 392


def test_limit_is_met_up_to_its_allowed_share_of_misses() -> None:
    assert report(table(ttft_ms=late(400, 4, 50, 101)), slos=(TTFT,)).slo_checks[0].met
    assert not report(table(ttft_ms=late(400, 5, 50, 101)), slos=(TTFT,)).slo_checks[0].met


def test_one_token_answers_have_no_tpot_and_pass() -> None:
    result = report(table(tpot_ms=np.nan, output_tokens=1), slos=(TPOT,))
    assert result.slo_checks[0].met
    assert result.tpot_ms.count == 0


def test_a_generator_may_be_later_where_the_figures_do_not_matter() -> None:
    late_ones = table(lag_ms=40.0, ttft_ms=90.0)
    assert report(late_ones).validity is Validity.INVALID
    assert report(late_ones, max_lag_ms=50.0).validity is Validity.VALID


@pytest.mark.parametrize(
    ("columns", "changes", "reason"),
    [
        ({"lag_ms": 40.0, "ttft_ms": 90.0}, {}, "left late"),
        ({"blur_ms": 60.0, "ttft_ms": 90.0}, {}, "late to send or read"),
        ({"lag_ms": 9.0, "ttft_ms": 105.0}, {"slos": (TTFT,)}, "only because the generator"),
        ({}, {"cpu_percent": 99.0}, "of its core"),
        ({}, {"not_sent": 3}, "never sent"),
        ({}, {"lost": "worker 2 was lost"}, "worker 2 was lost"),
    ],
)
def test_generator_that_cannot_be_believed_makes_the_run_invalid(
    columns: dict[str, Any], changes: dict[str, Any], reason: str
) -> None:
    result = report(table(**columns), **changes)
    assert result.validity is Validity.INVALID
    assert reason in (result.invalid_reason or "")


def test_lag_of_a_slow_target_is_judged_by_its_share() -> None:
    assert report(table(lag_ms=40.0, ttft_ms=900.0)).validity is Validity.VALID


def test_p99_of_few_requests_has_no_upper_bound() -> None:
    ordered = np.arange(180.0)
    assert percentile_of(ordered, 99).high is None
    assert percentile_of(np.arange(1000.0), 99).high is not None
    assert samples_needed(99) == 299


def test_nothing_measured_is_said_not_invented() -> None:
    assert distribution(np.array([np.nan])).percentiles == ()
    assert report(table(5, error="connect", ttft_ms=np.nan, e2e_ms=np.nan, tpot_ms=np.nan)).ttft_ms.count == 0
