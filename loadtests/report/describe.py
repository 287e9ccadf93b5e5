"""What a trace is like, and how two differ: lengths, rate, burstiness, shared prefixes, sessions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import Field

from controlplane.domain.base import Value
from loadtests.send.traces import Trace

Floats = npt.NDArray[np.float64]

DRIFTED = 0.1
"""Kolmogorov distance above which a distribution counts as changed: a tenth of the requests moved."""


class LengthStats(Value):
    mean: float
    p50: float
    p90: float
    p99: float
    max: int


class TraceStats(Value):
    """One trace. Rates in requests/s over the trace's own time."""

    name: str
    requests: int
    duration_s: float
    mean_rps: float
    peak_rps: float = Field(
        description="Highest rate over 10 seconds, counted from the start in steps of 10; over all of a shorter trace."
    )
    gap_variation: float = Field(description="Coefficient of variation of the gaps between arrivals: 1 for Poisson.")
    dispersion_10s: float = Field(
        description="Variance over mean of arrivals per 10 s: 1 for Poisson, more is burstier."
    )
    prompt_tokens: LengthStats
    output_tokens: LengthStats
    length_correlation: float = Field(description="Spearman's, of prompt and output lengths.")
    prefix_share: float | None = Field(
        description="Share of prompt tokens in blocks that an earlier request began with."
    )
    sessions: int | None
    turns_mean: float | None
    broken: int


class Drift(Value):
    """How much one property changed: Kolmogorov's distance for distributions, a ratio's distance from 1 for rates."""

    name: str
    first: float
    second: float
    distance: float
    drifted: bool


def describe_trace(trace: Trace) -> TraceStats:
    """Return the statistics of one trace."""
    gaps = np.diff(trace.arrival_s)
    per_10s = _counts(trace.arrival_s, 10.0)
    return TraceStats(
        name=trace.name,
        requests=len(trace),
        duration_s=trace.duration_s,
        mean_rps=trace.rate_rps,
        peak_rps=float(per_10s.max()) / min(10.0, trace.duration_s) if trace.duration_s > 0 else trace.rate_rps,
        gap_variation=float(gaps.std() / gaps.mean()) if len(gaps) and gaps.mean() > 0 else 0.0,
        dispersion_10s=float(per_10s.var() / per_10s.mean()),
        prompt_tokens=_lengths(trace.prompt_tokens),
        output_tokens=_lengths(trace.output_tokens),
        length_correlation=_rank_correlation(trace),
        prefix_share=prefix_share(trace),
        sessions=None if trace.session is None else len(np.unique(trace.session[trace.session >= 0])),
        turns_mean=_turns_mean(trace),
        broken=trace.broken,
    )


def prefix_share(trace: Trace) -> float | None:
    """Return the share of prompt tokens that an endless prefix cache would hold; None when blocks are unknown."""
    shared = shared_tokens(trace)
    return None if shared is None else float(shared.sum() / trace.prompt_tokens.sum())


def shared_tokens(trace: Trace) -> Floats | None:
    """Return per request the prompt tokens that an endless prefix cache would hold, (n,); None when blocks are unknown.

    A block counts when it and all before it in the prompt were the beginning of an earlier prompt, as in vLLM's cache.
    """
    if trace.blocks is None:
        return None
    seen: set[tuple[int, int]] = set()
    shared: list[float] = []
    for blocks, tokens in zip(trace.blocks, trace.prompt_tokens.tolist(), strict=True):
        parent, hits = 0, 0
        for number, block in enumerate(blocks):
            key = (parent, block)
            hits += key in seen and hits == number
            seen.add(key)
            parent = hash(key)
        shared.append(min(hits * trace.block_tokens, tokens))
    return np.array(shared, dtype=np.float64)


def compare_traces(first: Trace, second: Trace) -> list[Drift]:
    """Return how lengths, gaps (relative to their mean), rate and shared prefixes differ."""
    one, other = describe_trace(first), describe_trace(second)
    gaps_moved = kolmogorov_distance(_relative_gaps(first), _relative_gaps(second))
    rows = [
        _changed("prompt tokens, mean", first.prompt_tokens, second.prompt_tokens),
        _changed("output tokens, mean", first.output_tokens, second.output_tokens),
        _drift("gaps between arrivals, variation", one.gap_variation, other.gap_variation, gaps_moved),
        _ratio("requests/s, mean", one.mean_rps, other.mean_rps),
        _ratio("requests/s, peak over mean", _over(one.peak_rps, one.mean_rps), _over(other.peak_rps, other.mean_rps)),
    ]
    if one.prefix_share is not None and other.prefix_share is not None:
        moved = abs(other.prefix_share - one.prefix_share)
        rows.append(_drift("shared prefix, share of prompt tokens", one.prefix_share, other.prefix_share, moved))
    return rows


def kolmogorov_distance(first: Floats, second: Floats) -> float:
    """Return the largest difference between two empirical distribution functions."""
    places = np.concatenate((first, second))
    one = np.searchsorted(np.sort(first), places, side="right") / len(first)
    other = np.searchsorted(np.sort(second), places, side="right") / len(second)
    return float(np.abs(one - other).max())


def _changed(name: str, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> Drift:
    a, b = first.astype(np.float64), second.astype(np.float64)
    return _drift(name, float(a.mean()), float(b.mean()), kolmogorov_distance(a, b))


def _ratio(name: str, first: float, second: float) -> Drift:
    return _drift(name, first, second, abs(_over(second, first) - 1))


def _drift(name: str, first: float, second: float, distance: float) -> Drift:
    return Drift(name=name, first=first, second=second, distance=distance, drifted=distance > DRIFTED)


def _over(value: float, base: float) -> float:
    return value / base if base else 1.0


def _relative_gaps(trace: Trace) -> Floats:
    gaps = np.diff(trace.arrival_s)
    mean = gaps.mean() if len(gaps) else 0.0
    return gaps / mean if mean > 0 else np.zeros(1)


def _counts(arrival_s: Floats, width_s: float) -> npt.NDArray[np.int64]:
    counts: npt.NDArray[np.int64] = np.bincount((arrival_s / width_s).astype(np.int64))
    return counts[:-1] if len(counts) > 1 else counts  # the last interval is not whole


def _lengths(tokens: npt.NDArray[np.int64]) -> LengthStats:
    p50, p90, p99 = np.percentile(tokens, [50, 90, 99]).tolist()
    return LengthStats(mean=float(tokens.mean()), p50=p50, p90=p90, p99=p99, max=int(tokens.max()))


def _rank_correlation(trace: Trace) -> float:
    if len(trace) < 3 or not np.ptp(trace.prompt_tokens) or not np.ptp(trace.output_tokens):
        return 0.0
    ranks = [np.argsort(np.argsort(column, kind="stable")) for column in (trace.prompt_tokens, trace.output_tokens)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _turns_mean(trace: Trace) -> float | None:
    if trace.session is None or not (trace.session >= 0).any():
        return None
    _, turns = np.unique(trace.session[trace.session >= 0], return_counts=True)
    return float(turns.mean())
