"""How long a level lasts: until its percentiles rest on enough requests, after the engine is in steady state. Pure."""

from __future__ import annotations

import math
from typing import NamedTuple

from controlplane.domain.enough import samples_needed
from controlplane.domain.service import ServiceSpec
from controlplane.domain.slo import SloSet
from controlplane.domain.studies.study import TrialKind
from controlplane.domain.studies.tuning_options import LevelOptions
from controlplane.domain.workload import has_own_arrivals

_DECIDING = 3.5  # times as many requests where a decision hangs on the level: ten beyond the percentile
_CHECKING = 10.0  # as many in a fleet's check, where affordable: one burst among 200 requests decides a P95
_RESIDENCES = 3.0  # a level lasts as many times as long as a request stays
_MOST_WARMUP = 0.25  # of `max_s`
_LEVELS_PER_START = 5  # about as many share the wall clock of a start
_BURSTS_SHARE = 0.25


class Pace(NamedTuple):
    """One level's plan, emulated seconds: the warm-up does not count. `enough` requests make its verdict a claim."""

    warmup_s: float
    duration_s: float
    enough: int

    @property
    def whole_s(self) -> float:
        """From the first request to the last."""
        return self.warmup_s + self.duration_s


def fewest_requests(percentile: float) -> int:
    """Return how many requests hold one beyond the percentile with probability 95 %: 299 for a P99, 59 for a P95.

    (Nonparametric bound on a quantile by the largest of n: 1 - p^n; Wilks 1941.)
    """
    return samples_needed(percentile)


def pace(
    slos: SloSet,
    options: LevelOptions,
    rate_rps: float,
    *,
    deciding: bool = False,
    checking: bool = False,
    residence_s: float | None = None,
) -> Pace:
    """Return how long a level at `rate_rps` lasts: `max_s`, longer for its percentiles, never above `longest_s`.

    `residence_s` is how long most requests stay in the engine, None when nothing is known of it: before so much time
    the engine holds fewer requests than later, and serves them faster. A fleet's check (`checking`) lasts longest:
    whole fleets are refused by it, and no ladder of other rates says the same again.
    """
    fewest = max(fewest_requests(slo.percentile) for slo in slos.latency)
    enough = math.ceil(fewest * (_DECIDING if deciding or checking else 1.0))
    sought = fewest * _CHECKING if checking else enough
    stays_s = residence_s or 0.0
    warmup_s = max(options.warmup_s, min(stays_s, _MOST_WARMUP * options.max_s))
    # Arrivals are random: a tenth more time, or half of all levels would have too few.
    wanted_s = max(options.max_s, 1.1 * sought / rate_rps, _RESIDENCES * stays_s)
    return Pace(warmup_s, min(wanted_s, options.most_s), enough)


def pace_of(spec: ServiceSpec, kind: TrialKind, rate_rps: float, *, residence_s: float | None) -> Pace:
    """Return how long a level of a trial lasts: longest where the study's answer hangs on it.

    A fleet is checked under a trace's own arrivals for as long as it takes to see how they burst: a section of a few
    minutes is stretched to its rate, and what the whole trace brings in its worst ones is not in it.
    """
    deciding, checking = kind in (TrialKind.CONFIRM_WINNER, TrialKind.CONFIRM_BASELINE), kind is TrialKind.CONFIRM_FLEET
    planned = pace(
        spec.slos, _affordable(spec), rate_rps, deciding=deciding, checking=checking, residence_s=residence_s
    )
    if kind is TrialKind.CONFIRM_FLEET and has_own_arrivals(spec.workload):
        return planned._replace(duration_s=max(planned.duration_s, _bursts_s(spec)))
    return planned


def _bursts_s(spec: ServiceSpec) -> float:
    """Return how long bursts are waited for, a quarter of the study's wall clock at most."""
    wall_s = spec.tuning.budget.wall_clock_s
    share_s = math.inf if wall_s is None else _BURSTS_SHARE * wall_s * spec.engine.time_lapse
    return min(spec.tuning.levels.bursts_s, share_s)


def _affordable(spec: ServiceSpec) -> LevelOptions:
    """Return the options with levels no longer than the study's wall clock allows, `max_s` at least."""
    options, budget = spec.tuning.levels, spec.tuning.budget
    if budget.wall_clock_s is None:
        return options
    share_s = budget.wall_clock_s * spec.engine.time_lapse / (budget.engine_starts * _LEVELS_PER_START)
    return options.evolve(longest_s=max(options.max_s, min(options.most_s, share_s)))
