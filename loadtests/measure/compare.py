"""Two runs side by side: differences with 95 % intervals, request by request when both sent the same schedule."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from loadtests.measure.intervals import PERCENTILES
from loadtests.measure.records import RecordTable

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_METRICS = (("ttft_ms", "TTFT"), ("tpot_ms", "TPOT"), ("e2e_ms", "E2E"))
_RESAMPLES = 1000


class Comparison(NamedTuple):
    """One figure: second minus first, with the interval of the difference. Latencies in ms."""

    name: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    paired: bool


def same_schedule(first: RecordTable, second: RecordTable) -> bool:
    """Say whether both runs sent the same requests at the same instants (same seed, both run to the end)."""
    return (
        len(first) == len(second)
        and bool((first.index == second.index).all())
        and bool(np.allclose(first.scheduled_s, second.scheduled_s, atol=1e-4))
    )


def compare_runs(first: RecordTable, second: RecordTable, *, seed: int = 0) -> list[Comparison]:
    """Return the differences of P50, P90, P95, P99 of each latency and of the error ratio.

    Moving-block bootstrap (Künsch 1989), blocks of √n requests in the order sent, because requests that queue together
    are slow together. With the same schedule both runs are resampled at the same places, which removes what the
    workload itself varies.
    """
    paired = same_schedule(first, second)
    rng = np.random.Generator(np.random.PCG64(seed))
    places = [(_places(len(first), rng), _places(len(second), rng)) for _ in range(_RESAMPLES)]
    if paired:
        places = [(one, one) for one, _ in places]
    rows = []
    for name, label in _METRICS:
        a, b = _values(first, name), _values(second, name)
        if not (np.isnan(a).all() or np.isnan(b).all()):
            rows += _percentile_rows(label, a, b, places, paired=paired)
    return [*rows, _error_row(first, second, places, paired=paired)]


def _values(records: RecordTable, name: str) -> Floats:
    column: Floats = getattr(records, name)
    return np.where(records.ok, column, np.nan)


def _places(n: int, rng: np.random.Generator) -> Ints:
    block = max(1, round(n**0.5))
    starts = rng.integers(0, max(1, n - block + 1), size=-(-n // block))
    places: Ints = (starts[:, None] + np.arange(block)).ravel()[:n]
    return places


def _percentile_rows(
    label: str, a: Floats, b: Floats, places: list[tuple[Ints, Ints]], *, paired: bool
) -> list[Comparison]:
    resampled = np.array([_percentiles(b[in_b]) - _percentiles(a[in_a]) for in_a, in_b in places])
    low, high = np.nanpercentile(resampled, [2.5, 97.5], axis=0)
    at_a, at_b = _percentiles(a), _percentiles(b)
    return [
        Comparison(f"P{rank:g} {label} ms", at_a[i], at_b[i], at_b[i] - at_a[i], low[i], high[i], paired)
        for i, rank in enumerate(PERCENTILES)
    ]


def _percentiles(values: Floats) -> Floats:
    known = values[~np.isnan(values)]
    found: Floats = np.percentile(known, PERCENTILES) if len(known) else np.full(len(PERCENTILES), np.nan)
    return found


def _error_row(first: RecordTable, second: RecordTable, places: list[tuple[Ints, Ints]], *, paired: bool) -> Comparison:
    a, b = (~first.ok).astype(np.float64), (~second.ok).astype(np.float64)
    resampled = [float(b[in_b].mean() - a[in_a].mean()) for in_a, in_b in places]
    low, high = np.percentile(resampled, [2.5, 97.5])
    mean_a, mean_b = float(a.mean()), float(b.mean())
    return Comparison("error ratio", mean_a, mean_b, mean_b - mean_a, float(low), float(high), paired)
