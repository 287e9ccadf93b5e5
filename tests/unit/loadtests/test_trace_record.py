"""Live records become traces and come back the same; traces are described and compared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.errors import InvalidInput
from loadtests.report.describe import compare_traces, describe_trace, kolmogorov_distance
from loadtests.report.describe_html import trace_page
from loadtests.send.trace_record import export_trace, record_trace
from loadtests.send.traces import Trace, load_trace

START = datetime(2026, 1, 1, tzinfo=UTC)


def live(second: float, **more: Any) -> GatewayRecord:
    fields = {
        "id": f"r{second}",
        "at": START + timedelta(seconds=second),
        "gateway": "g",
        "service": "s",
        "model": "m",
        "revision": None,
        "engine_id": None,
        "path": "/v1/chat/completions",
        "stream": True,
        "status": 200,
        "prompt_tokens": 100,
        "output_tokens": 20,
    }
    return GatewayRecord.model_validate(fields | more)


def trace(arrival_s: list[float], prompt: list[int] | None = None, **more: Any) -> Trace:
    n = len(arrival_s)
    lengths = np.array(prompt or [100] * n)
    return Trace("t", np.array(arrival_s), lengths, np.full(n, 10), **more)


def test_live_records_become_a_trace_of_lengths_and_gaps(tmp_path: Path) -> None:
    records = [live(5, prompt_tokens=7, session="a"), live(2, prefix_blocks=(1, 2), prefix_block_tokens=16), live(9)]
    assert record_trace(records, tmp_path / "t.jsonl") == (3, 0, 0, 0)
    found = load_trace(str(tmp_path / "t.jsonl"))
    assert found.arrival_s.tolist() == [0.0, 3.0, 7.0]
    assert found.prompt_tokens.tolist() == [100, 7, 100]
    assert found.blocks == ((1, 2), (), ())
    assert found.block_tokens == 16
    assert found.session is not None
    assert found.session.tolist() == [-1, 0, -1]


def test_requests_without_lengths_are_left_out_and_counted(tmp_path: Path) -> None:
    records = [live(1), live(2, output_tokens=None, status=503, error="upstream"), live(3, retried=True)]
    assert record_trace(records, tmp_path / "t.jsonl") == (1, 1, 0, 1)
    with pytest.raises(InvalidInput, match="nothing to record"):
        record_trace(records[1:], tmp_path / "none.jsonl")


def test_prompts_the_engine_did_not_count_are_estimated_from_their_bytes(tmp_path: Path) -> None:
    counted = live(1, prompt_tokens=100, prompt_bytes=500)
    uncounted = live(2, prompt_tokens=None, prompt_bytes=2000)
    unknown = live(3, prompt_tokens=None)
    assert record_trace([counted, uncounted, unknown], tmp_path / "t.jsonl") == (2, 1, 1, 0)
    assert load_trace(str(tmp_path / "t.jsonl")).prompt_tokens.tolist() == [100, 400]


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"e2e_ms": 1e6}, True),  # late is served
        ({"client_gone": True, "status": 499}, True),  # so much the engine had done
        ({"status": 502, "error": "truncated", "truncated": True}, False),
        ({"status": 429, "error": "limit"}, False),
        ({"status": 400, "error": "upstream_4xx"}, False),
        ({"status": 200, "error": "gateway_stopped"}, False),
        ({"status": 503, "error": "queue_full"}, False),
    ],
)
def test_only_served_traffic_is_recorded_whatever_tokens_a_record_has(
    tmp_path: Path, changes: dict[str, Any], kept: bool
) -> None:
    recorded = record_trace([live(1), live(2, **changes)], tmp_path / "t.jsonl")
    assert recorded == ((2, 0, 0, 0) if kept else (1, 1, 0, 1))


def test_whose_key_a_request_had_is_left_out_where_it_is_not_asked_for(tmp_path: Path) -> None:
    record_trace([live(1, key="alice")], tmp_path / "with.jsonl")
    record_trace([live(1, key="alice")], tmp_path / "without.jsonl", keys=False)
    assert load_trace(str(tmp_path / "with.jsonl")).tenants == ("alice",)
    assert "alice" not in (tmp_path / "without.jsonl").read_text()


def test_blocks_of_text_have_the_size_of_the_median_block(tmp_path: Path) -> None:
    """A short chat's template weighs on its few blocks; the many blocks of long prompts decide."""
    short = live(1, prefix_blocks=(1,), prefix_block_tokens=90.0)
    long = live(2, prefix_blocks=tuple(range(40)), prefix_block_tokens=27.6)
    record_trace([short, long], tmp_path / "t.jsonl")
    assert load_trace(str(tmp_path / "t.jsonl")).block_tokens == 27.6


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_exported_traces_load_again(tmp_path: Path, name: str) -> None:
    original = load_trace("azure-llm-2023/code")
    export_trace(original, tmp_path / name)
    columns = None
    if name.endswith("csv"):
        from loadtests.send.trace_rows import Columns

        columns = Columns("arrival_s", "prompt_tokens", "output_tokens")
    again = load_trace(str(tmp_path / name), columns)
    assert np.allclose(again.arrival_s, original.arrival_s, atol=1e-5)
    assert (again.prompt_tokens == original.prompt_tokens).all()


def test_burstiness_of_poisson_and_of_clockwork() -> None:
    rng = np.random.default_rng(0)
    poisson = describe_trace(trace(np.cumsum(rng.exponential(0.1, 20_000)).tolist()))
    clockwork = describe_trace(trace((np.arange(1000) / 10).tolist()))
    assert poisson.gap_variation == pytest.approx(1, abs=0.05)
    assert poisson.dispersion_10s == pytest.approx(1, abs=0.25)
    assert clockwork.gap_variation == pytest.approx(0, abs=1e-6)


def test_the_peak_of_a_trace_shorter_than_its_window_is_no_less_than_the_mean() -> None:
    short = describe_trace(trace((np.arange(60) / 10).tolist()))
    assert short.peak_rps >= short.mean_rps == pytest.approx(10, rel=0.05)


def test_prefix_share_counts_only_unbroken_prefixes_seen_before() -> None:
    blocks = ((1, 2, 3), (1, 2, 4), (9, 2, 3))
    found = describe_trace(trace([0, 1, 2], [30, 30, 30], blocks=blocks, block_tokens=10))
    assert found.prefix_share == pytest.approx(20 / 90)


def test_a_trace_is_like_itself_and_unlike_another() -> None:
    conv, code = load_trace("azure-llm-2023/conv"), load_trace("azure-llm-2023/code")
    assert not any(each.drifted for each in compare_traces(conv, conv))
    assert all(each.drifted for each in compare_traces(conv, code))


def test_kolmogorov_distance_of_shifted_values() -> None:
    assert kolmogorov_distance(np.arange(100.0), np.arange(100.0) + 25) == pytest.approx(0.25)


def test_page_shows_both_traces() -> None:
    page = trace_page([trace([0, 1, 3]), load_trace("azure-llm-2023/code")])
    assert "azure-llm-2023/code" in page
    assert 'class="drifted"' in page


def test_page_plots_shared_prefixes_where_blocks_are_known() -> None:
    blocks = ((1, 2), (1, 3), (1, 2))
    shared = trace_page([trace([0, 1, 3], [20, 20, 20], blocks=blocks, block_tokens=10)])
    assert "Shared prefix" in shared
    assert "50.0%" in shared
    assert "Shared prefix" not in trace_page([trace([0, 1, 3])])
