"""Counts of an arm as the series that bounds are made of, and counts of several steps together. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from controlplane.domain.rollouts.analysis import Clustered, Counts
from controlplane.domain.rollouts.bursts import Runs, Series, series


def misses_of(counts: Counts, late: int = 0) -> Series:
    """Return misses request by request; so many more are in flight beyond a limit."""
    return _with_late(series(counts.told, counts.slo_misses, counts.miss_runs), late)


def clusters_of(counts: Counts, late: int = 0) -> Series:
    """Return misses session by session. Only of counts that know their clusters."""
    assert counts.clustered is not None, "the caller looked"
    return _with_late(_series(counts.clustered), late)


def whole_of(counts: Counts, late: int = 0) -> Series:
    """Return misses of limits on the end, session by session. Only of counts that know them."""
    assert counts.whole is not None, "the caller looked"
    return _with_late(_series(counts.whole), late)


def _series(told: Clustered) -> Series:
    return series(told.n, told.misses, told.runs)


def errors_of(counts: Counts) -> Series:
    return series(counts.requests, counts.errors, counts.error_runs)


def refusals_of(counts: Counts) -> Series:
    return series(counts.requests + counts.refused, counts.refused, counts.refusal_runs)


def _with_late(seen: Series, late: int) -> Series:
    """What is in flight beyond a limit has missed it; it ends no run that is open."""
    if not late:
        return seen
    begun = 0 if seen.open else 1
    return Series(seen.n + late, seen.hits + late, seen.runs + begun, seen.open + begun)


def add(counts: Iterable[Counts]) -> Counts:
    """Pool several counts into one; runs and clusters are pooled where every part knows them."""
    each = list(counts)
    plain = {name: sum(getattr(c, name) for c in each) for name in _PLAIN}
    runs = {name: _pooled([getattr(c, name) for c in each]) for name in _RUNS}
    return Counts(
        **plain,
        **runs,
        clustered=_pooled_clusters([c.clustered for c in each]),
        whole=_pooled_clusters([c.whole for c in each]),
    )


_RUNS = ("miss_runs", "error_runs", "refusal_runs")
_PLAIN = tuple(name for name in Counts.model_fields if name not in {*_RUNS, "clustered", "whole"})


def _pooled(parts: Sequence[Runs | None]) -> Runs | None:
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    return Runs(runs=sum(part.runs for part in known), open=sum(part.open for part in known))


def _pooled_clusters(parts: Sequence[Clustered | None]) -> Clustered | None:
    known = [part for part in parts if part is not None]
    runs = _pooled([None if part is None else part.runs for part in parts])
    if runs is None:
        return None
    return Clustered(n=sum(part.n for part in known), misses=sum(part.misses for part in known), runs=runs)
