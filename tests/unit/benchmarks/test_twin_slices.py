"""Coverage by slice, of a report's cells."""

from __future__ import annotations

from benchmarks.twin_slices import slices
from tuner.twin.validate import CellMetric


def a_cell(engine: str, rate_rps: float, measured: float, *, saturated: bool = False) -> CellMetric:
    return CellMetric(
        id=engine,
        workload="conv",
        rate_rps=rate_rps,
        metric="ttft_ms_p50",
        measured=measured,
        predicted=10,
        low=8,
        high=12,
        saturated=saturated,
    )


def test_each_slice_counts_what_its_intervals_hold_and_saturated_cells_count_nowhere() -> None:
    fast, slow = "8b-fp8-tp1-s64-t2048", "70b-bf16-tp2-s256-t8192"
    found = slices(
        [a_cell(fast, 4, 9), a_cell(fast, 20, 13), a_cell(slow, 20, 11), a_cell(slow, 20, 99, saturated=True)]
    )
    assert found["fp8"] == (2, 0.5)
    assert found["bf16"] == found["tp2"] == found["budget 8192"] == (1, 1.0)
    assert found["beyond 8 requests/s"] == (2, 0.5)
    assert found["ttft_ms_p50"][0] == 3
