"""Two runs side by side: differences with 95 % intervals, request by request when both sent the same schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from loadtests.measure.intervals import PERCENTILES
from loadtests.measure.records import RecordTable

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_METRICS = (("ttft_ms", "TTFT"), ("tpot_ms", "TPOT"), ("e2e_ms", "E2E"))
_RESAMPLES = 1000
_VALUES_AT_ONCE = 2_000_000


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
    in_first, in_second = (np.empty((_RESAMPLES, len(each)), np.int64) for each in (first, second))
    for number in range(_RESAMPLES):
        in_first[number], in_second[number] = _places(len(first), rng), _places(len(second), rng)
    places = (in_first, in_first if paired else in_second)
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


def _percentile_rows(label: str, a: Floats, b: Floats, places: tuple[Ints, Ints], *, paired: bool) -> list[Comparison]:
    in_a, in_b = places
    low, high = np.nanpercentile(
        _resampled(_percentiles, b, in_b) - _resampled(_percentiles, a, in_a), [2.5, 97.5], axis=0
    )
    at_a, at_b = _percentiles(a[None])[0], _percentiles(b[None])[0]
    return [
        Comparison(f"P{rank:g} {label} ms", at_a[i], at_b[i], at_b[i] - at_a[i], low[i], high[i], paired)
        for i, rank in enumerate(PERCENTILES)
    ]


def _resampled(figures: Callable[[Floats], Floats], values: Floats, places: Ints) -> Floats:
    """Return the figures of each resample: (resamples, figures). Some at once, or memory would not do."""
    at_once = max(1, _VALUES_AT_ONCE // len(values))
    return np.concatenate([figures(values[places[at : at + at_once]]) for at in range(0, len(places), at_once)])


def _percentiles(rows: Floats) -> Floats:
    """Return the percentiles of what is known in each row, linear between order statistics; NaN where nothing is.

    As `np.percentile` of each row without its NaNs, which takes twenty times as long: those are sorted to the end.
    """
    ordered, known = np.sort(rows, axis=1), np.count_nonzero(~np.isnan(rows), axis=1)
    rank = np.asarray(PERCENTILES) / 100 * (np.maximum(known, 1) - 1)[:, None]
    below = rank.astype(np.int64)
    above = np.minimum(below + 1, np.maximum(known, 1)[:, None] - 1)
    low, high = np.take_along_axis(ordered, below, 1), np.take_along_axis(ordered, above, 1)
    found: Floats = low + (high - low) * (rank - below)
    return found


def _mean(rows: Floats) -> Floats:
    found: Floats = rows.mean(axis=1)
    return found


def _error_row(first: RecordTable, second: RecordTable, places: tuple[Ints, Ints], *, paired: bool) -> Comparison:
    a, b = (~first.ok).astype(np.float64), (~second.ok).astype(np.float64)
    in_a, in_b = places
    low, high = np.percentile(_resampled(_mean, b, in_b) - _resampled(_mean, a, in_a), [2.5, 97.5])
    mean_a, mean_b = float(a.mean()), float(b.mean())
    return Comparison("error ratio", mean_a, mean_b, mean_b - mean_a, float(low), float(high), paired)
