"""What the engines of both arms say of themselves, and when only the canary's say that it cannot hold its load. Pure.

A full KV cache or a storm of preemptions may be what the load would do to any revision. It is the canary's own where
stable's replicas, scaled up to the canary's load, would have room: what fills a cache grows with the load at most.
Nothing is said where stable's engines do not tell, or serve nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from controlplane.domain.base import EngineId
from controlplane.domain.rollouts.rollout_options import RolloutOptions

FULL = 0.9
"""Of the KV cache: vLLM admits nothing once the next request's blocks do not fit."""
QUEUED = 3
"""So many requests wait beside a full cache before it is what they wait for."""
_STRAINED = 0.7
"""Share of a window's readings: a burst of arrivals fills a cache for a moment."""
TIMES = 4.0
"""A canary preempts so many times as often as stable would at its load before it is its own doing."""
_READINGS = 3  # fewer in the window say nothing
_SPANS = 0.7  # of the window
_KEPT = 1200  # readings of a replica: twenty minutes


class Pressure(NamedTuple):
    """What one replica said at one moment, wall clock. None: it did not say."""

    at: datetime
    preemptions: float | None = None
    """Counted since it started."""
    kv_usage: float | None = None
    """Share of the KV cache in use."""
    waiting: float | None = None
    """Requests that its scheduler has not admitted."""
    gpu_memory: float | None = None
    """Share in use of its fullest GPU."""
    resident_gib: float | None = None
    """What its process holds of the host's memory."""


Readings = Sequence[Pressure]


class PressureLog:
    """The newest readings of each replica. A new controller begins with none."""

    def __init__(self) -> None:
        self._kept: dict[EngineId, deque[Pressure]] = {}

    def add(self, told: Mapping[EngineId, Pressure]) -> None:
        """Keep what is new; replicas that are not told of any more are forgotten."""
        self._kept = {name: self._kept.get(name, deque(maxlen=_KEPT)) for name in told}
        for name, reading in told.items():
            kept = self._kept[name]
            if not kept or kept[-1].at < reading.at:
                kept.append(reading)

    def of(self, engines: Sequence[EngineId]) -> Sequence[Readings]:
        return [tuple(self._kept[name]) for name in engines if name in self._kept]


class Loads(NamedTuple):
    """Requests per second a replica is given, engine time."""

    canary_rps: float
    stable_rps: float

    @property
    def ratio(self) -> float:
        """How many times stable's load the canary has; at least one."""
        return max(1.0, self.canary_rps / self.stable_rps)


def strain(
    mine: Sequence[Readings],
    theirs: Sequence[Readings],
    loads: Loads,
    options: RolloutOptions,
    *,
    now: datetime,
    time_lapse: float,
) -> str | None:
    """Say how a replica of the canary strains where one of stable would not; None where none does."""
    since = now - timedelta(seconds=options.guard_window_s)
    own, others = (
        [found for each in part if (found := _window(each, since, time_lapse)) is not None] for part in (mine, theirs)
    )
    beside = _at_load(others, loads)
    if beside is None:
        return None
    hits = (_storm(each, beside, options.guard_preemptions_rps) or _full(each, beside) for each in own)
    return next((hit for hit in hits if hit is not None), None)


class _Window(NamedTuple):
    """One replica over the guard's window. None: it did not say throughout."""

    preempted_rps: float | None  # engine time
    most_kv: float | None
    strained: float  # share of the readings at which requests waited for a full cache


def _window(readings: Readings, since: datetime, time_lapse: float) -> _Window | None:
    lately = [each for each in readings if each.at >= since]
    if len(lately) < _READINGS or lately[-1].at - lately[0].at < _SPANS * (lately[-1].at - since):
        return None
    engine_s = (lately[-1].at - lately[0].at).total_seconds() * time_lapse
    return _Window(
        preempted_rps=_rate_rps(lately, engine_s),
        most_kv=max((each.kv_usage for each in lately if each.kv_usage is not None), default=None),
        strained=sum(_waits_for_cache(each) for each in lately) / len(lately),
    )


def _waits_for_cache(reading: Pressure) -> bool:
    return (reading.kv_usage or 0) >= FULL and (reading.waiting or 0) >= QUEUED


def _rate_rps(lately: Readings, engine_s: float) -> float | None:
    first, last = lately[0].preemptions, lately[-1].preemptions
    return None if first is None or last is None or last < first else (last - first) / engine_s


class _Beside(NamedTuple):
    """What stable's replicas would show at the canary's load."""

    preempted_rps: float
    kv_usage: float


def _at_load(others: Sequence[_Window], loads: Loads) -> _Beside | None:
    rates = [each.preempted_rps for each in others if each.preempted_rps is not None]
    usages = [each.most_kv for each in others if each.most_kv is not None]
    if not rates or not usages or loads.stable_rps <= 0:
        return None
    return _Beside(loads.ratio * max(rates), loads.ratio * max(usages))


def _storm(own: _Window, beside: _Beside, limit_rps: float) -> str | None:
    rate = own.preempted_rps
    if rate is None or rate < limit_rps or rate < TIMES * beside.preempted_rps or beside.kv_usage >= FULL:
        return None
    return f"a canary replica preempts {rate:.1f} requests/s, {_beside(beside)}"


def _full(own: _Window, beside: _Beside) -> str | None:
    if own.strained < _STRAINED or beside.kv_usage >= FULL:
        return None
    return f"{QUEUED} requests and more wait for the full KV cache of a canary replica, {_beside(beside)}"


def _beside(beside: _Beside) -> str:
    used = f"{100 * beside.kv_usage:.0f} % of its cache used"
    return f"where one of stable would preempt {beside.preempted_rps:.1f} with {used} at that load"
