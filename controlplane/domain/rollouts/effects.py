"""How much slower a canary is than stable, percentile by percentile, and what its declared margins say to that. Pure.

Each arm's percentile has bounds that hold at every look (`spread`); their differences bound the difference. What is
shown holds together at the rollout's confidence. A margin is held to the rollout's error rates as ratios are
(`comparing`): beyond it for certain at the divided rate of aborting an equal canary, within it at that of promoting a
worse one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from controlplane.domain.rollouts.analysis import LatencyEffect
from controlplane.domain.rollouts.rollout_options import RolloutOptions
from controlplane.domain.rollouts.spread import Beside, Curve, bounds
from controlplane.domain.slo import LatencyMetric

PERCENTILES = (50, 95, 99)

Curves = Mapping[LatencyMetric, Curve]


class Latencies(NamedTuple):
    """Latencies of everything that is compared. `users` is None where the step sends none to the canary."""

    users: Curves | None
    replayed: Curves
    stable: Curves
    before: Curves


def effects(seen: Latencies, options: RolloutOptions) -> tuple[LatencyEffect, ...]:
    """Return every percentile's difference, users' before replayed ones; none where an arm has no latency yet."""
    arms = [(False, seen.users), (True, seen.replayed)] if seen.users is not None else [(True, seen.replayed)]
    return tuple(
        effect
        for replayed, mine in arms
        if mine is not None
        for metric, curve in mine.items()
        if curve.n and seen.stable[metric].n
        for effect in _of_metric(
            metric, _Pair(curve, seen.stable[metric], seen.before[metric], replayed), options, len(arms)
        )
    )


class _Pair(NamedTuple):
    canary: Curve
    stable: Curve
    before: Curve
    replayed: bool

    def range(self, percentile: float, alpha: float, declared_run: float) -> tuple[float | None, float | None]:
        """Return the least and the most that the canary's percentile is above stable's."""
        beside = Beside((self.stable, self.before), self.before if self.before.n else None, declared_run)
        mine, theirs = (bounds(each, percentile, alpha / 2, beside) for each in (self.canary, self.stable))
        return _less(mine.low_ms, theirs.high_ms), _less(mine.high_ms, theirs.low_ms)


def _less(ms: float | None, other_ms: float | None) -> float | None:
    return None if ms is None or other_ms is None else ms - other_ms


def _of_metric(metric: LatencyMetric, pair: _Pair, options: RolloutOptions, parts: int) -> Iterator[LatencyEffect]:
    alpha = (1 - options.confidence) / (2 * len(PERCENTILES) * parts)
    margins: dict[int, float] = {
        each.percentile: each.margin_ms for each in options.latency_margins if each.metric is metric
    }
    for percentile in PERCENTILES:
        low, high = pair.range(percentile, alpha, options.miss_run)
        margin_ms = margins.get(percentile)
        canary_ms, stable_ms = (each.percentile_ms(percentile) for each in (pair.canary, pair.stable))
        yield LatencyEffect(
            metric=metric,
            percentile=percentile,
            replayed=pair.replayed,
            canary_ms=canary_ms,
            stable_ms=stable_ms,
            difference_ms=canary_ms - stable_ms,
            low_ms=low,
            high_ms=high,
            margin_ms=margin_ms,
            certainly_worse=margin_ms is not None and _is_beyond(pair, percentile, margin_ms, options, parts),
            certainly_within=margin_ms is not None and _is_within(pair, percentile, margin_ms, options, parts),
        )


def _is_beyond(pair: _Pair, percentile: float, margin_ms: float, options: RolloutOptions, parts: int) -> bool:
    alpha = options.false_abort_per_step / (options.compared * parts)
    low, _ = pair.range(percentile, alpha, options.longest_run)
    return low is not None and low > margin_ms


def _is_within(pair: _Pair, percentile: float, margin_ms: float, options: RolloutOptions, parts: int) -> bool:
    _, high = pair.range(percentile, options.false_promotion / parts, options.miss_run)
    return high is not None and high <= margin_ms


def describe_effect(effect: LatencyEffect) -> str:
    """Return it in a line: P99 TTFT: +120 ms (40 to 210)."""
    name = effect.metric.value.removesuffix("_ms").upper()
    said = f"P{effect.percentile:g} {name}: {_signed(effect.difference_ms)} ms ({_interval(effect)})"
    margin = "" if effect.margin_ms is None else f", margin {effect.margin_ms:g} ms"
    return f"{'replayed ' if effect.replayed else ''}{said}{margin}"


def _interval(effect: LatencyEffect) -> str:
    if effect.low_ms is None and effect.high_ms is None:
        return "how much is not certain yet"
    if effect.high_ms is None:
        return f"{_plain(effect.low_ms)} or more"
    if effect.low_ms is None:
        return f"at most {_plain(effect.high_ms)}"
    return f"{_plain(effect.low_ms)} to {_plain(effect.high_ms)}"


def _signed(ms: float) -> str:
    return f"{ms:+.0f}" if abs(ms) >= 10 else f"{ms:+.1f}"


def _plain(ms: float | None) -> str:
    assert ms is not None, "the caller looked"
    return f"{ms:.0f}" if abs(ms) >= 10 else f"{ms:.1f}"
