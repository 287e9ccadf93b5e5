"""Judging one rate level while it runs: it ends early once failing is certain, or passing is likely enough to go on.

Three tests run side by side. A sequential one bounds the miss ratio of every limit at every look, at a joint confidence
(`domain.rollouts.anytime`); a level then fails when what is yet to come will hardly bring the ratio back either. A
plain count sees when more requests missed than the whole level allows: no later one can make up for them. The third
looks for over-saturation: a queue that keeps growing will break any TTFT limit, but tells so in latencies much later.
Requests in flight, counted at every look, are cut in blocks after the ramp-up; a level is over-saturated when their
trend over the level is larger than its noise and than what the limits leave, and first tokens take longer and longer.

Passing cannot be certain before a level's time: a queue that grows slowly shows late. An early pass (`whole` is false)
therefore only saves time far from the limit; the ladder does not let a level pass early where it would decide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from controlplane.domain.report import LoadTestReport, Validity
from controlplane.domain.rollouts.anytime import miss_ratio_bounds
from controlplane.domain.slo import LatencyMetric, RequestOutcome, SloSet, misses
from controlplane.domain.studies.tuning_options import LevelOptions
from tuner.ladder.ladder import Rung

_ALPHA = 0.05
_PASS_ALPHA = 0.2  # an early pass only says where to go next
_BLOCKS = 8
_TREND_T = 4.0  # two-sided p < 0.01 with 6 degrees of freedom
_CHANCE = 6.0  # standard deviations between two counts of an engine that keeps up
_SPARE = 1.05  # arrivals are random: a level may measure more requests than planned
_WAITS_GROW = 1.5  # median TTFT of the last third over the first: a batch that grows slows prefills by less
_CLUSTER = 3.0  # requests that miss together, on average
_SURE_Z = 2.33  # one-sided 1 %
_LOOK_EVERY = 8  # requests between two looks at the bounds: each costs a few hundred microseconds


class Looks(NamedTuple):
    """What one look at a running level gives."""

    elapsed_s: float
    in_flight: int
    records: Sequence[RequestOutcome]


class LevelOutcome(NamedTuple):
    """A level's end. `pressure` is the worst miss ratio over the allowed one; None without any finished request.

    `whole` is false for a pass before the level's time: it holds for what was seen, and a queue may still build up.
    """

    passed: bool
    certain: bool
    reason: str
    pressure: float | None
    whole: bool = True


def rung_of(rate_rps: float, outcome: LevelOutcome) -> Rung:
    """Return what a level that ended adds to its ladder."""
    return Rung(
        rate_rps=rate_rps,
        passed=outcome.passed,
        certain=outcome.certain,
        pressure=outcome.pressure,
        whole=outcome.whole,
    )


class _Growth(NamedTuple):
    slope: float  # requests in flight per second
    span_s: float
    mean: float


class LevelJudge:
    """Watches one level. Not reusable: make one per level."""

    def __init__(
        self,
        slos: SloSet,
        options: LevelOptions,
        *,
        planned: float = math.inf,
        may_pass_early: bool = True,
        warmup_s: float | None = None,
        enough: int = 0,
        bursty: bool = False,
    ) -> None:
        """`planned` is how many requests the whole level is to measure, `enough` how many its verdict needs to be more
        than an impression. `warmup_s` is the level's own, None for that of the options. `bursty` is a level that lasts
        to see how arrivals burst: one burst says nothing of what is yet to come, only the count ends it early.
        """
        self._bursty = bursty
        self._warmup_s = options.warmup_s if warmup_s is None else warmup_s
        self._enough = enough
        self._planned = planned
        self._may_pass_early = may_pass_early
        self._limits = slos.latency
        self._max_error_ratio = slos.max_error_ratio
        self._options = options
        self._alpha = _ALPHA / (len(slos.latency) + 1)
        self._seen = 0
        self._looked_at = 0
        self._misses = dict.fromkeys(slos.latency, 0)
        self._errors = 0
        self._in_flight: list[tuple[float, int]] = []
        self._slowest_s = 0.0
        self._ttfts_ms: list[float] = []
        self._decision: LevelOutcome | None = None

    def watch(self, progress: Looks) -> str | None:
        """Take one look; return why the level may end now, else None."""
        if self._decision is not None:
            return self._decision.reason
        self._count(progress.records)
        self._in_flight.append((progress.elapsed_s, progress.in_flight))
        if self._seen - self._looked_at >= _LOOK_EVERY:
            self._looked_at = self._seen
            self._decision = self._judge(progress.elapsed_s)
        return None if self._decision is None else self._decision.reason

    def decided(self) -> LevelOutcome:
        """Return the outcome the level ended early with. Raises ValueError while it is undecided."""
        if self._decision is None:
            raise ValueError("the level is undecided")
        return self._decision

    def conclude(self, report: LoadTestReport) -> LevelOutcome:
        """Return the level's outcome: none when the generator was late, however certain it seemed while it ran; else
        what was certain then, else the point estimates at its end.
        """
        if report.validity is Validity.INVALID:
            return LevelOutcome(False, False, report.invalid_reason or "the generator could not keep up", None)
        if self._decision is not None:
            return self._decision
        worst = _report_pressure(report, self._max_error_ratio)
        if report.completed + report.errors == 0:
            return LevelOutcome(False, False, "no request finished", None)
        if trend := self._over_saturation(report.duration_s):
            return LevelOutcome(False, False, trend, max(worst, 1.0 + 1e-9))
        failed = [str(check.slo) for check in report.slo_checks if not check.met]
        if report.error_ratio > self._max_error_ratio:
            failed.append(f"error ratio {report.error_ratio:.2%} > {self._max_error_ratio:.2%}")
        reason = f"misses {', '.join(failed)}" if failed else "meets every limit at the time limit"
        return LevelOutcome(not failed, False, f"{reason}{self._too_few(report)}", worst)

    def _too_few(self, report: LoadTestReport) -> str:
        """Say so when the limits' percentiles rest on fewer requests than they need."""
        finished = report.completed + report.errors
        if finished >= self._enough:
            return ""
        highest = max(slo.percentile for slo in self._limits)
        return f", but {finished} requests are fewer than the {self._enough} that a P{highest:g} takes to be known"

    def _count(self, records: Sequence[RequestOutcome]) -> None:
        for record in records[self._seen :]:
            self._errors += not record.ok
            for slo in self._limits:
                self._misses[slo] += misses(record, slo)
            if record.e2e_ms is not None:
                self._slowest_s = max(self._slowest_s, record.e2e_ms / 1000)
            if record.ttft_ms is not None:
                self._ttfts_ms.append(record.ttft_ms)
        self._seen = len(records)

    def _judge(self, elapsed_s: float) -> LevelOutcome | None:
        if elapsed_s < self._warmup_s + self._options.min_s:  # a burst in the first seconds is no state
            return None
        counts = [(self._misses[slo], slo.allowed_miss_ratio, str(slo)) for slo in self._limits]
        counts.append((self._errors, self._max_error_ratio, "error ratio"))
        broken = {
            name: f"{self._least(count):.1%} of requests at least"
            for count, allowed, name in counts
            if not self._bursty
            and self._least(count) > allowed
            and _will_exceed(count, self._seen, allowed, self._planned)
        }
        # So many misses that no later request can make up for them.
        spent = [s for s in self._limits if self._misses[s] > s.allowed_miss_ratio * self._planned * _SPARE + 1]
        broken = {str(slo): f"by {self._misses[slo]} requests" for slo in spent} | broken
        if broken:
            why = ", ".join(f"{name} ({by})" for name, by in broken.items())
            return LevelOutcome(False, True, f"certainly misses {why}", self._pressure())
        if not self._bursty and (trend := self._over_saturation(elapsed_s)):
            return LevelOutcome(False, True, trend, max(self._pressure(), 1.0 + 1e-9))
        if not self._may_pass_early or self._seen < self._enough:
            return None
        # Errors need no certainty of their own: a ratio of 0.1 % would take thousands of requests to be sure of.
        latency_sure = all(
            miss_ratio_bounds(self._misses[s], self._seen, _PASS_ALPHA)[1] <= s.allowed_miss_ratio for s in self._limits
        )
        errors_few = self._errors <= self._max_error_ratio * self._seen
        if latency_sure and errors_few and self._growth(elapsed_s) is None:
            return LevelOutcome(True, False, "meets every limit so far", self._pressure(), whole=False)
        return None

    def _least(self, count: int) -> float:
        return miss_ratio_bounds(count, self._seen, self._alpha)[0]

    def _pressure(self) -> float:
        return max(pressure(self._misses[slo], self._seen, slo.allowed_miss_ratio) for slo in self._limits)

    def _over_saturation(self, elapsed_s: float) -> str | None:
        """Return the complaint when requests in flight grow by more than chance allows, else None."""
        growth = self._growth(elapsed_s)
        if growth is None:
            return None
        # Without any queue (M/G/inf) the count in flight has the variance of its mean: a burst of long answers looks
        # like growth. Where limits are missed already, half as much growth tells the cause.
        chance = math.sqrt(2 * growth.mean) * (_CHANCE / 2 if self._pressure() > 1 else _CHANCE)
        if growth.slope * growth.span_s <= chance or not self._waits_grow():
            return None
        return f"over-saturated: {growth.slope:.2f} more requests in flight every second"

    def _waits_grow(self) -> bool:
        """Say whether first tokens take longer and longer.

        Answers that take longer than the level so far also add to the requests in flight, without any queue: the
        slowest of them have not been seen yet, so the ramp-up seems over too early.
        """
        third = len(self._ttfts_ms) // 3
        if third == 0:
            return False
        first, last = median(self._ttfts_ms[:third]), median(self._ttfts_ms[-third:])
        limits = [slo.limit_ms for slo in self._limits if slo.metric is LatencyMetric.TTFT]
        return last > _WAITS_GROW * first and last > min(limits, default=0.0) / 2

    def _growth(self, elapsed_s: float) -> _Growth | None:
        """Return how requests in flight grow, None when they do not."""
        # In flight grows until the longest requests of the first second have come back, however idle the engine is.
        ramp_s = self._warmup_s + self._slowest_s
        if elapsed_s < ramp_s + max(self._options.min_s / 2, self._slowest_s):
            return None
        steady = [(at, count) for at, count in self._in_flight if at >= ramp_s]
        if len(steady) < 2 * _BLOCKS:
            return None
        slope, error, mean = _block_trend(steady)
        span_s = steady[-1][0] - steady[0][0]
        grows = slope > _TREND_T * error and slope * span_s > max(4.0, 0.5 * mean)
        return _Growth(slope, span_s, mean) if grows else None


def _block_trend(samples: Sequence[tuple[float, int]]) -> tuple[float, float, float]:
    """Return slope per second, its standard error and the mean, from block means (neighbouring looks are alike)."""
    size = len(samples) / _BLOCKS
    blocks = [samples[int(i * size) : int((i + 1) * size)] for i in range(_BLOCKS)]
    xs = [sum(at for at, _ in block) / len(block) for block in blocks]
    ys = [sum(count for _, count in block) / len(block) for block in blocks]
    mean_x, mean_y = sum(xs) / _BLOCKS, sum(ys) / _BLOCKS
    spread = sum((x - mean_x) ** 2 for x in xs)
    if spread == 0:
        return 0.0, 0.0, mean_y
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    residual = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in zip(xs, ys, strict=True))
    return slope, math.sqrt(residual / (_BLOCKS - 2) / spread), mean_y


def _will_exceed(missed: int, seen: int, allowed: float, planned: float) -> bool:
    """Say whether the misses will exceed the allowed share of `planned` requests, foretold from those `seen`.

    The bounds take requests for independent, but misses come in clusters: a burst of long prompts in the first seconds
    exceeds any bound, and the whole level may still pass. Here every `_CLUSTER` requests count as one.
    """
    ratio = (missed + 0.5) / (seen + 1)
    spread = math.sqrt(ratio * (1 - ratio) * _CLUSTER / seen)
    rest = max(0.0, 1 - seen / planned)  # share of the level yet to come
    foretold = missed / seen * (1 - rest) + ratio * rest
    return foretold - allowed > _SURE_Z * spread * math.sqrt(rest)


def pressure(misses: float, requests: int, allowed: float) -> float:
    """Return the misses over the allowed ones, 1 being halfway between the last count that passes and the next.

    Also, no misses in few requests are less far from the limit than in many.
    """
    return (misses + 0.5) / (requests * allowed + 1)


def _report_pressure(report: LoadTestReport, max_error_ratio: float) -> float:
    finished = report.completed + report.errors
    ratios = [
        pressure(check.miss_ratio * finished, finished, check.slo.allowed_miss_ratio) for check in report.slo_checks
    ]
    if max_error_ratio > 0:
        ratios.append(report.error_ratio / max_error_ratio)
    return max(ratios, default=0.0)
