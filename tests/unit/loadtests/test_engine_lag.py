"""How late an emulated engine delivered, and when that makes a report tell of the host instead of the engine."""

from __future__ import annotations

import math
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.adapters.fleet_processes.probes import emulator_lag, parse_emulator_lag
from controlplane.domain.report import Validity
from controlplane.domain.service import EngineOptions
from controlplane.emulator.metrics import EngineMetrics
from loadtests.measure.engine_lag import LagHistogram
from loadtests.report.report import with_engine_lag
from tests.unit.tuner.ladder.test_level import record, report

BOUNDS = (0.001, 0.01, 0.02, 0.05, math.inf)


def lag(*counts: float) -> LagHistogram:
    """Tokens per bucket, not cumulative."""
    return LagHistogram(BOUNDS, tuple(float(sum(counts[: place + 1])) for place in range(len(counts))))


def test_the_percentile_lies_within_its_bucket() -> None:
    assert lag(99, 1, 0, 0, 0).p99_ms == pytest.approx(1)
    assert lag(0, 0, 100, 0, 0).p99_ms == pytest.approx(19.9)
    assert lag(0, 0, 0, 0, 5).p99_ms == 50  # beyond the last bound: at least that
    assert lag(0, 0, 0, 0, 0).p99_ms == 0


def test_only_what_was_delivered_in_between_counts() -> None:
    slow_start, then = lag(0, 0, 0, 0, 50), lag(100, 0, 0, 0, 50)
    assert slow_start.p99_ms == 50
    assert then.since(slow_start).p99_ms <= 1


@given(st.lists(st.integers(0, 1000), min_size=5, max_size=5), st.integers(0, 4))
def test_one_more_late_token_never_makes_an_engine_look_punctual(counts: list[int], place: int) -> None:
    more = [count + (1 if each == 4 else 0) for each, count in enumerate(counts)]
    assert lag(*more).p99_ms >= lag(*counts).p99_ms - 1e-9


def test_a_level_on_an_engine_that_lagged_is_invalid_whatever_it_measured() -> None:
    measured = report([record(index, 200.0) for index in range(100)], time_lapse=5.0)
    assert with_engine_lag(measured, 9.0) == measured
    late = with_engine_lag(measured, 12.0)  # 60 emulated ms where 50 may be
    assert late.validity is Validity.INVALID
    assert "emulated engine" in (late.invalid_reason or "")
    assert "60.0 ms (limit 50.0 ms); a smaller engine.emulator.time_lapse" in (late.invalid_reason or "")
    real_time = with_engine_lag(report([record(index, 50.0) for index in range(100)]), 12.0)
    assert real_time.validity is Validity.INVALID
    assert "time_lapse" not in (real_time.invalid_reason or "")  # there is none to make smaller


def test_more_may_be_late_where_the_figures_do_not_matter() -> None:
    """A loop that is drilled on a busy machine is not about its figures."""
    measured = report([record(index, 200.0) for index in range(100)], time_lapse=5.0)
    assert with_engine_lag(measured, 900.0, max_lag_ms=1000.0) == measured
    assert with_engine_lag(measured, 1100.0, max_lag_ms=1000.0).validity is Validity.INVALID


@pytest.mark.parametrize(("kind", "limit_ms"), [("emulator", 500.0), ("vllm", 10.0)])
def test_only_emulated_engines_may_be_believed_though_they_are_late(kind: str, limit_ms: float) -> None:
    engine = EngineOptions.model_validate({"kind": kind, "emulator": {"max_lag_ms": 500}})
    assert engine.max_lag_ms == limit_ms


def test_a_tenth_of_a_long_first_token_may_be_lag() -> None:
    measured = report([record(index, 5000.0) for index in range(100)])
    assert with_engine_lag(measured, 400.0).validity is Validity.VALID
    assert with_engine_lag(measured, 600.0).validity is Validity.INVALID


def test_what_was_invalid_keeps_its_reason() -> None:
    broken = report([record(0, 1)], validity="invalid", invalid_reason="requests left late")
    assert with_engine_lag(broken, 1e6) == broken


def test_the_emulators_histogram_is_read_from_its_metrics() -> None:
    text = (
        'vllm:num_requests_running{engine="0"} 3.0\n'
        'fleetune:emulator_lag_seconds_bucket{engine="0",le="0.01",model_name="m"} 7.0\n'
        'fleetune:emulator_lag_seconds_bucket{engine="0",le="+Inf",model_name="m"} 9.0\n'
        'fleetune:emulator_lag_seconds_count{engine="0",model_name="m"} 9.0\n'
    )
    assert parse_emulator_lag(text) == LagHistogram((0.01, math.inf), (7.0, 9.0))
    assert parse_emulator_lag('vllm:num_requests_running{engine="0"} 3.0\n') is None


def test_an_engine_that_was_seconds_late_is_not_within_a_second() -> None:
    """The last bound was a second, and what lay beyond it counted as that."""
    metrics = EngineMetrics("m", 8192, {}, {})
    for _ in range(100):
        metrics.lag_wall_s.observe(3.0)
    found = parse_emulator_lag(metrics.text().decode())
    assert found is not None
    late = with_engine_lag(report([record(0, 1)]), found.p99_ms, max_lag_ms=1000)
    assert late.validity is Validity.INVALID


class Late(BaseHTTPRequestHandler):
    """An engine that is held up: its page comes after more than a second."""

    def do_GET(self) -> None:
        time.sleep(1.2)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'fleetune:emulator_lag_seconds_bucket{le="+Inf"} 9\n')

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_an_engine_that_is_late_with_its_page_too_is_asked_how_late_it_was() -> None:
    """It was taken for one that is never late."""
    with HTTPServer(("127.0.0.1", 0), Late) as server:
        answering = threading.Thread(target=server.handle_request)
        answering.start()
        found = emulator_lag(f"http://127.0.0.1:{server.server_port}")
        answering.join()
    assert found == LagHistogram((math.inf,), (9.0,))
