"""The one capacity model: what one replica of a revision sustains at the SLOs, each number with its interval. Pure.

`Capacity` is a rate. Whoever scales, admits, alerts or plans needs the same point in other units: tokens per second,
requests in the engine, prompt tokens that wait, start-up. They are made here, from the same levels, and nowhere else.

Concurrency and waiting prompt tokens come from Little's law (Little 1961, L = rate x time in the system), which holds
for means whatever the arrivals: requests in the engine = rate x mean E2E, prompt tokens = prompt rate x mean TTFT.
Their intervals are the rate's: lengths and times are taken as measured at the level nearest to it that passed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from statistics import median

from pydantic import Field, model_validator

from controlplane.domain.base import RevisionId, Value
from controlplane.domain.report import LoadTestReport, Validity
from controlplane.domain.slo import LatencySlo
from controlplane.domain.studies.capacity import Capacity
from controlplane.domain.studies.study import Level

_Z95 = 1.96
_CROWD_Z = 3.0
"""A Poisson crowd exceeds its mean by three standard deviations once in about 700 moments."""


class Source(StrEnum):
    """What the rate rests on, from the best to the least."""

    CONFIRMED = "confirmed"  # measured again, in turn with the baseline
    TRIAL = "trial"
    DECLARED = "declared"  # a person said so in service.yaml
    TWIN = "twin"


class Estimate(Value):
    """A number with its 95 % interval."""

    value: float = Field(ge=0, allow_inf_nan=False)
    low: float = Field(ge=0, allow_inf_nan=False)
    high: float = Field(ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> Estimate:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"{self.value:g} does not lie between {self.low:g} and {self.high:g}")
        return self

    def times(self, factor: float) -> Estimate:
        """Return the estimate of `factor` times the number."""
        return Estimate(value=self.value * factor, low=self.low * factor, high=self.high * factor)


class ReplicaCapacity(Value):
    """What one replica sustains at the SLOs, in engine time. What nobody measured is None, never a default."""

    revision: RevisionId | None = Field(default=None, description="None: of a configuration that is no revision.")
    source: Source
    rate_rps: Estimate
    prompt_tps: Estimate | None = Field(default=None, description="Prompt tokens per second that come with the rate.")
    output_tps: Estimate | None = None
    concurrent: Estimate | None = Field(default=None, description="Requests in the engine on average, at the rate.")
    prefill_tokens: Estimate | None = Field(default=None, description="Prompt tokens waiting or in prefill, average.")
    kv_percent: Estimate | None = Field(default=None, description="Highest share of the KV cache in use at the rate.")
    startup_s: Estimate | None = Field(default=None, description="Median, shortest and longest start seen. Wall clock.")
    censored: bool = Field(default=False, description="No rate tried was too high: it may sustain more.")
    observed: bool = Field(default=False, description="Corrected by what live traffic showed.")

    @property
    def concurrency_limit(self) -> int | None:
        """How many requests a replica may be given at once before a queue outside it is the better place to wait.

        The mean crowd at the highest rate that is likely, and three standard deviations: requests in a system where
        nobody queues are Poisson, whatever the lengths (M/G/∞). The rate cannot explain a crowd beyond that.
        """
        if self.concurrent is None or self.concurrent.high <= 0:
            return None
        crowd = self.concurrent.high
        return math.ceil(crowd + _CROWD_Z * math.sqrt(crowd))


class Live(Value):
    """The extremes of what live traffic showed of one replica, engine time: not every window, which are no news."""

    held_rps: float | None = Field(default=None, gt=0, description="Highest rate at which every limit surely held.")
    missed_rps: float | None = Field(default=None, gt=0, description="Lowest rate at which one was surely missed.")


def declared(rate_rps: float, *, startup_s: float | None = None) -> ReplicaCapacity:
    """Return what a person says of a replica: taken as it is."""
    return ReplicaCapacity(
        source=Source.DECLARED,
        rate_rps=_exactly(rate_rps),
        startup_s=None if startup_s is None else _exactly(startup_s),
    )


def measured(
    capacity: Capacity,
    levels: Sequence[Level],
    *,
    source: Source,
    startups_s: Sequence[float] = (),
    revision: RevisionId | None = None,
) -> ReplicaCapacity:
    """Return what trials of one configuration say; `levels` are those of all its engine lives."""
    rate = _rate(capacity)
    found = ReplicaCapacity(
        revision=revision,
        source=source,
        rate_rps=rate,
        startup_s=_seen(startups_s),
        censored=capacity.censored,
    )
    knee = _knee(levels, capacity.rps)
    return found if knee is None else found.evolve(**_at_knee(knee, rate))


def foretold(
    capacity: Capacity, *, prompt_tokens: float, output_tokens: float, kv_usage: float | None, e2e_s: float | None
) -> ReplicaCapacity:
    """Return what the twin expects: mean lengths in tokens, mean E2E at the capacity (None: unknown)."""
    rate = _rate(capacity)
    return ReplicaCapacity(
        source=Source.TWIN,
        rate_rps=rate,
        prompt_tps=rate.times(prompt_tokens),
        output_tps=rate.times(output_tokens),
        concurrent=None if e2e_s is None else rate.times(e2e_s),
        kv_percent=None if kv_usage is None else _exactly(100 * kv_usage),
        censored=capacity.censored,
    )


def corrected(model: ReplicaCapacity, live: Live) -> ReplicaCapacity:
    """Return the model after live traffic: it held one rate, it missed at another.

    The logarithm of the rate is taken as normal with the interval for its 95 %. Each of the two facts is one
    observation with an error of 10 % (`_LIVE_SD`): lengths and bursts of the hour are not the long run's. What hangs on
    the rate moves with it. A censored rate takes what held as its new value and stays censored.
    """
    if live.held_rps is None and live.missed_rps is None:
        return model
    before = model.rate_rps
    after = _posterior(before, live)
    moved = after.value / before.value if before.value else 1.0
    rates = {name: part.times(moved) for name in _RATES if (part := getattr(model, name)) is not None}
    return model.evolve(rate_rps=after, observed=True, **rates)


def seen(
    live: Live, model: ReplicaCapacity, *, rate_rps: float, judged: int, missed: int, slos: Sequence[LatencySlo]
) -> Live:
    """Return the extremes after a while at `rate_rps` per replica, in which so many of the `judged` missed any limit.

    All limits held when even the strictest one's share was not reached, for 95 % certain; one was missed when all
    shares together were exceeded. Misses come in clusters: two requests count as one. Misses far below what the replica
    sustains have another cause than load, and say nothing of its capacity.
    """
    allowed = [slo.allowed_miss_ratio for slo in slos]
    low, high = _share(missed / _CLUSTER, judged / _CLUSTER)
    if rate_rps <= 0 or judged <= 0:
        return live
    if high <= min(allowed):
        return live.evolve(held_rps=max(rate_rps, live.held_rps or 0.0))
    if low > sum(allowed) and rate_rps >= _LOAD_SHARE * model.rate_rps.low:
        return live.evolve(missed_rps=min(rate_rps, live.missed_rps or math.inf))
    return live


_CLUSTER = 2.0
_LOAD_SHARE = 0.5


def _share(missed: float, judged: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share (Wilson 1927)."""
    if judged <= 0:
        return 0.0, 1.0
    share, z2 = missed / judged, _Z95**2
    middle = (share + z2 / (2 * judged)) / (1 + z2 / judged)
    half = _Z95 * math.sqrt(share * (1 - share) / judged + z2 / (4 * judged**2)) / (1 + z2 / judged)
    return middle - half, middle + half


_RATES = ("prompt_tps", "output_tps", "concurrent", "prefill_tokens")
_LIVE_SD = 0.1
_LEAST_SD = 0.02
_POINTS = 801
_REACH = 1.6  # of the grid, in the logarithm of the rate: a factor of five


def _posterior(before: Estimate, live: Live) -> Estimate:
    if before.value <= 0:
        return before
    sd = max(_LEAST_SD, math.log(max(before.high, 1e-9) / max(before.low, 1e-9)) / (2 * _Z95))
    grid = [_REACH * (2 * index / (_POINTS - 1) - 1) for index in range(_POINTS)]
    logs = [-0.5 * (x / sd) ** 2 + _told(math.log(before.value) + x, live) for x in grid]
    top = max(logs)
    weights = [math.exp(each - top) for each in logs]
    low, value, high = (before.value * math.exp(_quantile(grid, weights, p)) for p in (0.025, 0.5, 0.975))
    return Estimate(value=value, low=low, high=high)


def _told(log_rps: float, live: Live) -> float:
    """Log likelihood of the two facts at one capacity."""
    held = 0.0 if live.held_rps is None else _log_phi((log_rps - math.log(live.held_rps)) / _LIVE_SD)
    missed = 0.0 if live.missed_rps is None else _log_phi((math.log(live.missed_rps) - log_rps) / _LIVE_SD)
    return held + missed


def _log_phi(z: float) -> float:
    """Logarithm of the normal distribution function; far out by its asymptote, where the function itself is 0."""
    if z < -30:
        return -0.5 * z * z - math.log(-z * math.sqrt(2 * math.pi))
    return math.log(0.5 * math.erfc(-z / math.sqrt(2)))


def _quantile(grid: Sequence[float], weights: Sequence[float], probability: float) -> float:
    wanted, so_far = probability * math.fsum(weights), 0.0
    for x, weight in zip(grid, weights, strict=True):
        so_far += weight
        if so_far >= wanted:
            return x
    return grid[-1]


def _rate(capacity: Capacity) -> Estimate:
    low, high = min(capacity.low_rps, capacity.rps), max(capacity.high_rps, capacity.rps)
    return Estimate(value=capacity.rps, low=low, high=high)


def _exactly(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)


def _seen(values: Sequence[float]) -> Estimate | None:
    return Estimate(value=median(values), low=min(values), high=max(values)) if values else None


def _knee(levels: Sequence[Level], rps: float) -> Level | None:
    """Return the level to take lengths and times from: of those that passed the one nearest to the capacity."""
    told = [each for each in levels if each.passed and each.replicas is None and _tells(each.report)]
    return min(told, key=lambda level: abs(level.rate_rps - rps), default=None)


def _tells(report: LoadTestReport) -> bool:
    return report.validity is Validity.VALID and report.completed > 0 and report.throughput_rps > 0


def _at_knee(level: Level, rate: Estimate) -> dict[str, Estimate]:
    report = level.report
    prompt, output = (tps / report.throughput_rps for tps in (report.prompt_tps, report.output_tps))
    found = {"prompt_tps": rate.times(prompt), "output_tps": rate.times(output)}
    if report.e2e_ms.mean is not None:
        found["concurrent"] = rate.times(report.e2e_ms.mean / 1e3)
    if report.ttft_ms.mean is not None:
        found["prefill_tokens"] = rate.times(prompt * report.ttft_ms.mean / 1e3)
    return found
