"""Live figures: what counts, in whose time, and how sure a percentile is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from controlplane.domain.base import RevisionId
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.engines.engine import EngineKind
from controlplane.domain.enough import samples_needed
from controlplane.domain.operations.live import CheckState, Live, live, reach
from controlplane.domain.service import EmulatorOptions, EngineOptions
from controlplane.domain.slo import LatencyMetric, LatencySlo, SloSet
from tests.builders_serving import NOW, a_gateway_record, a_spec

P99_TTFT = SloSet(latency=(LatencySlo(metric=LatencyMetric.TTFT, percentile=99, limit_ms=100),), target_qps=5)
STABLE = RevisionId("rev-stable")


def a_record(seconds_ago: float = 5, **changes: Any) -> GatewayRecord:
    """A good request that arrived that long before NOW and took one second."""
    named = {"at": NOW - timedelta(seconds=seconds_ago), "revision": STABLE}
    times = {"output_tokens": 11, "ttft_ms": 50, "tpot_ms": 95, "e2e_ms": 1000}
    return a_gateway_record(**named | times | changes)


def look(records: list[GatewayRecord], *, time_lapse: float = 1, window_s: float = 60) -> Live:
    emulator = EngineOptions(kind=EngineKind.EMULATOR, emulator=EmulatorOptions(time_lapse=time_lapse))
    spec = a_spec(engine=emulator, slos=P99_TTFT)
    return live(spec, records, now=NOW, window_s=window_s, bucket_s=10)


def test_a_request_counts_at_the_instant_it_finished() -> None:
    still_before_the_window = a_record(seconds_ago=61.5)
    arrived_before_but_finished_inside = a_record(seconds_ago=60.5)
    found = look([still_before_the_window, arrived_before_but_finished_inside])
    assert found.overall.requests == 1


def test_emulated_latencies_and_rates_are_shown_in_emulated_time() -> None:
    found = look([a_record()], time_lapse=3)
    assert found.overall.ttft_ms.p99 == 150
    assert found.overall.rps == pytest.approx(1 / 180)
    assert found.checks[0].state is CheckState.MISSED


def test_a_client_that_hung_up_counts_once_a_limit_had_passed() -> None:
    found = look([a_record(client_gone=True, ttft_ms=None, e2e_ms=90)] * 3).overall
    assert (found.requests, found.left_early) == (0, 3)
    found = look([a_record(client_gone=True, ttft_ms=None, e2e_ms=110)] * 3).overall
    assert (found.requests, found.attainment, found.errors) == (3, 0, 0)


def test_an_attempt_made_good_elsewhere_counts_against_its_revision_only() -> None:
    found = look([a_record(), a_record(retried=True, error="upstream_5xx", revision=RevisionId("rev-canary"))])
    assert found.overall.errors == 0
    assert {part.revision: part.figures.errors for part in found.revisions} == {STABLE: 0, "rev-canary": 1}


def test_without_requests_nothing_is_claimed() -> None:
    found = look([])
    assert found.overall.attainment is None
    assert found.overall.error_ratio is None
    assert found.overall.ttft_ms.p99 is None
    assert found.checks[0].state is CheckState.SILENT


def test_a_p99_within_its_limit_is_met_only_with_enough_requests() -> None:
    assert look([a_record()] * 298).checks[0].state is CheckState.FEW
    assert look([a_record()] * 299).checks[0].state is CheckState.MET


def test_a_miss_makes_more_requests_necessary_before_a_limit_counts_as_met() -> None:
    slow = a_record(ttft_ms=101)
    assert look([a_record()] * 298 + [slow]).checks[0].state is CheckState.FEW
    assert look([a_record()] * 472 + [slow]).checks[0].state is CheckState.MET
    assert look([a_record()] * 396 + [slow] * 4).checks[0].state is CheckState.FEW
    assert look([a_record()] * 396 + [slow] * 5).checks[0].state is CheckState.MISSED


def test_nothing_streamed_is_no_limit_met() -> None:
    whole = a_record(seconds_ago=65, stream=False, ttft_ms=None, tpot_ms=None, e2e_ms=60_000)
    found = look([whole] * 400)
    assert (found.checks[0].state, found.checks[0].samples) == (CheckState.UNMEASURED, 0)
    assert found.overall.requests == 400
    assert found.overall.attainment is None


def test_a_request_that_ended_in_a_time_out_after_ten_minutes_is_seen() -> None:
    late = a_record(seconds_ago=605, stream=False, status=504, error="upstream_timeout", ttft_ms=None, e2e_ms=600_000)
    assert late.at >= NOW - timedelta(seconds=60) - reach(a_spec())
    assert look([late]).overall.errors == 1


def test_refusals_are_neither_errors_nor_misses() -> None:
    found = look([a_record(), a_record(status=400, error="upstream_4xx", ttft_ms=None)]).overall
    assert (found.requests, found.errors, found.refused, found.attainment) == (1, 0, 1, 1.0)


def test_an_error_misses_every_limit_and_adds_no_latency() -> None:
    found = look([a_record(), a_record(error="upstream_5xx", status=502, ttft_ms=None, tpot_ms=None, e2e_ms=None)])
    assert found.overall.attainment == 0.5
    assert found.overall.ttft_ms.count == 1


def test_the_series_holds_whole_intervals_of_the_window_only() -> None:
    found = look([a_record(seconds_ago=s) for s in range(60)], window_s=59)
    assert len(found.series) == 5
    assert found.series[-1].at == NOW
    assert all(point.figures.requests == 10 for point in found.series)


@pytest.mark.parametrize(("percentile", "needed"), [(50, 5), (90, 29), (95, 59), (99, 299)])
def test_samples_needed_are_those_of_a_distribution_free_bound(percentile: float, needed: int) -> None:
    assert samples_needed(percentile) == needed


@pytest.mark.parametrize(("misses", "needed"), [(0, 299), (1, 473), (2, 628), (10, 1693)])
def test_each_miss_asks_for_more_samples(misses: int, needed: int) -> None:
    assert samples_needed(99, misses) == needed
