"""The comparison of two load generators: the engine's histograms of one run, and what is said of both reports."""

from __future__ import annotations

import json
import math

import pytest

from benchmarks.h200.compare_generators import Figures, Run, histogram, level
from benchmarks.h200.timed_trace import timed_trace
from controlplane.emulator.metrics import Histogram as EngineHistogram
from loadtests.send.profiles import load_profile

_NAME = "vllm:time_to_first_token_seconds"


def _exposed(counted: EngineHistogram, engine: int = 0) -> str:
    """One histogram as Prometheus text, among lines of others."""
    labels = f'engine="{engine}",model_name="llama-8b"'
    lines = [f"# TYPE {_NAME} histogram", "vllm:num_requests_running{} 3.0"]
    lines += [f'{_NAME}_bucket{{{labels},le="{bound}"}} {count}' for bound, count in counted.buckets()]
    return "\n".join([*lines, f"{_NAME}_sum{{{labels}}} {counted.sum}", f"{_NAME}_count{{{labels}}} {counted.count}"])


def test_histogram_holds_only_what_came_between_the_scrapes() -> None:
    counted = EngineHistogram((0.02, 0.04, 0.06))
    counted.observe(5.0, 100)
    before = _exposed(counted)
    counted.observe(0.03, 9)
    counted.observe(0.05)
    found = histogram(before, _exposed(counted), _NAME)
    assert found.requests == 10
    assert found.mean_ms == pytest.approx(32)
    assert found.bucket(50) == (20, 40)
    assert found.bucket(99) == (40, 60)


def test_histogram_pools_engines_and_knows_no_upper_end_of_the_last_bucket() -> None:
    counted = EngineHistogram((0.02,))
    counted.observe(0.05)
    found = histogram("", _exposed(counted) + "\n" + _exposed(counted, engine=1), _NAME)
    assert found.requests == 2
    assert found.bucket(50) == (20, math.inf)


def _run(mean_ms: float) -> Run:
    counted = EngineHistogram((0.02, 0.04))
    counted.observe(0.03, 10)
    server = histogram("", _exposed(counted), _NAME)
    figures = Figures(mean_ms, dict.fromkeys((50, 90, 95, 99), mean_ms), server)
    return Run(10, 0, 128.0, 0.1, dict.fromkeys(("ttft", "tpot", "itl", "e2e"), figures))


def test_who_is_nearer_to_the_engine_is_named_and_large_differences_are_marked() -> None:
    lines = level(10, _run(30.5), _run(34.0))
    assert "nearer: fleetune" in "\n".join(lines)
    assert all(" *" in line for line in lines if "ttft" in line and "nearer" not in line)


def test_equal_generators_are_not_told_apart() -> None:
    text = "\n".join(level(10, _run(30.5), _run(30.6)))
    assert "nearer: neither" in text
    assert text.count(" *") == 1  # the legend


def test_a_timed_trace_has_the_schedule_and_shares_nothing() -> None:
    schedule = load_profile("benchmarks/h200/generators.yaml").schedule()
    rows = [json.loads(line) for line in timed_trace(schedule).splitlines()]
    assert [row["timestamp"] for row in rows] == schedule.scheduled_s.tolist()
    assert [row["input_length"] for row in rows] == schedule.prompt_tokens.tolist()
    assert [row["output_length"] for row in rows] == schedule.output_tokens.tolist()
    assert len({tuple(row["hash_ids"]) for row in rows}) == len(rows)
