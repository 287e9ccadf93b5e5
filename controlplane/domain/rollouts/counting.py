"""Counts of an arm as the series that bounds are made of, and counts of several steps together. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from controlplane.domain.rollouts.analysis import Clustered, Counts
from controlplane.domain.rollouts.bursts import Runs, Series, series

NOTHING = Counts(requests=0, slo_misses=0, errors=0, whole=Clustered(n=0, misses=0, runs=Runs(runs=0, open=0)))
"""No request. When none ended is known: it may be compared with those of a service that never streams."""


def misses_of(counts: Counts, late: int = 0) -> Series:
    """Return misses request by request; so many more are in flight beyond a limit."""
    return _with_late(series(counts.told, counts.slo_misses, counts.miss_runs), late)


def clusters_of(counts: Counts, late: int = 0) -> Series:
    """Return misses session by session. Only of counts that know their clusters."""
    assert counts.clustered is not None, "the caller looked"
    return _with_late(told_of(counts.clustered), late)


def whole_of(counts: Counts, late: int = 0) -> Series:
    """Return misses of limits on the end, session by session. Only of counts that know them."""
    assert counts.whole is not None, "the caller looked"
    return _with_late(told_of(counts.whole), late)


def told_of(told: Clustered) -> Series:
    return series(told.n, told.misses, told.runs)


def errors_of(counts: Counts, *, by_session: bool = False) -> Series:
    if by_session and counts.errors_clustered is not None:
        return told_of(counts.errors_clustered)
    return series(counts.requests, counts.errors, counts.error_runs)


def refusals_of(counts: Counts, *, by_session: bool = False) -> Series:
    if by_session and counts.refusals_clustered is not None:
        return told_of(counts.refusals_clustered)
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
    clusters = {name: _pooled_clusters([getattr(c, name) for c in each]) for name in _CLUSTERS}
    cut = None if all(c.cut is None for c in each) else sum(cut_of(c) for c in each)
    return Counts(**plain, **runs, **clusters, cut=cut)


def cut_of(counts: Counts) -> int:
    """Return the streams that the engine broke off, of a session two at most where sessions were known."""
    return counts.truncated if counts.cut is None else counts.cut


_RUNS = ("miss_runs", "error_runs", "refusal_runs")
_CLUSTERS = ("clustered", "whole", "errors_clustered", "refusals_clustered", "left_clustered", "later_clustered")
_PLAIN = tuple(name for name in Counts.model_fields if name not in {*_RUNS, *_CLUSTERS, "cut"})


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
