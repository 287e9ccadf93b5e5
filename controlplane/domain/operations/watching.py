"""The alerts that need no Prometheus: what is wrong now, and whether it lasted long enough to be told. Pure.

Names, thresholds and patience are those of the Prometheus rules (`known_alerts`), so that the same acts follow.
What nobody knows is no alert: a number that is missing is never taken for zero, nor for too much.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from pydantic import AwareDatetime

from controlplane.domain.base import Value
from controlplane.domain.engines.gpu import EngineGpu
from controlplane.domain.operations.burning import BURNS
from controlplane.domain.operations.known_alerts import (
    BUDGET_EXCEEDED,
    CERTIFICATE_ENDS,
    CERTIFICATE_LEFT_DAYS,
    ENGINE_DOWN,
    FLAPPING,
    GENERATOR_BEHIND,
    GPU_BUSY_PERCENT,
    GPU_THROTTLED,
    GPUS_BUSY,
    GPUS_BUSY_AND_QUEUED,
    JUMPED,
    JUMPED_REQUESTS,
    JUMPED_TIMES,
    JUMPED_WINDOW_S,
    KV_CACHE_FULL,
    KV_FULL_PERCENT,
    PREEMPTIONS,
    PREEMPTIONS_PER_S,
    QUEUE_GROWS,
    REPLAY_REGRESSED,
    REPLICAS_FLAP,
    ROLLOUT_HALTED,
    ROLLOUT_STUCK,
    STORE_FREE_BYTES,
    STORE_FREE_SHARE,
    STORE_FULL,
    KnownAlert,
)
from controlplane.domain.operations.load_news import LoadNews
from controlplane.domain.operations.minutes import Minutes, promises
from controlplane.domain.operations.space import Space
from controlplane.domain.service import ServiceSpec

FEWEST = 10
"""Requests within the short window of a burning budget: one failed request of three is no fire."""


class Stuck(NamedTuple):
    """A rollout that stays where it is for longer than it may."""

    rollout: str
    state: str
    stays_s: float
    reason: str


class Facts(NamedTuple):
    """What is known of one service. `waiting` are the newest five minutes, the oldest first; None is not known."""

    spec: ServiceSpec
    minutes: Minutes
    waiting: Sequence[float | None] = ()
    running: float | None = None
    kv_usage_percent: float | None = None
    preemptions_per_s: float | None = None
    hanging: Sequence[str] = ()
    failed: int = 0  # engines that failed within half an hour
    halted: str | None = None  # its rollout
    stuck: Stuck | None = None
    usd_per_hour: float | None = None
    gpu_percent: float | None = None
    gpus: Sequence[EngineGpu] = ()
    load: LoadNews = LoadNews()
    ready: int = 0  # engines of it that could tell numbers


class Trouble(NamedTuple):
    """Something that is wrong at this moment; an alert once it was so for `for_s` without a gap."""

    alert: str
    about: str  # of several of the same name
    severity: str
    for_s: float
    summary: str

    @classmethod
    def of(cls, known: KnownAlert, summary: str, *, about: str = "") -> Trouble:
        return cls(known.name, about, known.severity, known.for_s, summary)

    @property
    def key(self) -> str:
        return f"{self.alert}/{self.about}"


class Pending(Value):
    """A trouble that lasts: since when, and whether it was told."""

    since: AwareDatetime
    told: bool = False


class Ripe(NamedTuple):
    """A trouble that is to be told now, and since when it lasts."""

    trouble: Trouble
    since: datetime


def troubles(facts: Facts, now: datetime) -> list[Trouble]:
    """Return everything that is wrong with one service now."""
    of_load = [*_load(facts), *_gpus(facts)]
    return [*_burning(facts, now), *_jumped(facts, now), *of_load, *_replicas(facts), *_others(facts)]


def store_troubles(space: Space) -> list[Trouble]:
    """Return whether what the installation keeps has too little room left."""
    if space.free >= STORE_FREE_SHARE * space.size or space.free >= STORE_FREE_BYTES:
        return []
    summary = f"{space.free / 2**30:.1f} of {space.size / 2**30:.1f} GiB are free where the data folder lies"
    return [Trouble.of(STORE_FULL, summary)]


def certificate_troubles(ends: Mapping[str, Mapping[str, datetime]], now: datetime) -> list[Trouble]:
    """Return which certificates end soon or have ended, by gateway and whom they are shown to."""
    soon = now + timedelta(days=CERTIFICATE_LEFT_DAYS)
    return [
        Trouble.of(
            CERTIFICATE_ENDS,
            f"the certificate that gateway {gateway} shows to {shown_to} is good until {end:%Y-%m-%d %H:%M} UTC",
            about=f"{gateway}/{shown_to}",
        )
        for gateway, its in ends.items()
        for shown_to, end in its.items()
        if end < soon
    ]


def unknown(facts: Facts) -> frozenset[str]:
    """Return the alerts of which nobody can say now whether they last. Where no engine is ready there is nothing to."""
    if not facts.ready:
        return frozenset()
    queue = facts.waiting[-1] if facts.waiting else None
    numbers: Mapping[KnownAlert, Sequence[float | None]] = {
        QUEUE_GROWS: (queue, facts.running),
        KV_CACHE_FULL: (facts.kv_usage_percent,),
        PREEMPTIONS: (facts.preemptions_per_s,),
        GPUS_BUSY: (facts.gpu_percent,),
        GPUS_BUSY_AND_QUEUED: (facts.gpu_percent, queue),
    }
    silent = {alert.name for alert, needs in numbers.items() if None in needs}
    return frozenset(silent if facts.gpus else {*silent, GPU_THROTTLED.name})


def ended(before: Mapping[str, Pending], after: Mapping[str, Pending]) -> Mapping[str, Pending]:
    """Return what was told and is over."""
    return {key: each for key, each in before.items() if each.told and key not in after}


def ripened(
    found: Sequence[Trouble], before: Mapping[str, Pending], now: datetime, unknown: Collection[str] = ()
) -> tuple[Mapping[str, Pending], Sequence[Ripe]]:
    """Return what lasts, and what is to be told now: each trouble once, until it was over.

    Alerts that are `unknown` are neither over nor told. What has lasted since later than now was seen before a clock
    was set back: it lasts from now on.
    """
    known = {key: each if each.told else each.evolve(since=min(each.since, now)) for key, each in before.items()}
    after = {key: each for key, each in known.items() if key.partition("/")[0] in unknown}
    after |= {each.key: known.get(each.key, Pending(since=now)) for each in found}
    ripe = [
        Ripe(each, after[each.key].since)
        for each in found
        if not after[each.key].told and now - after[each.key].since >= timedelta(seconds=each.for_s)
    ]
    told = {each.trouble.key for each in ripe}
    return {key: one.evolve(told=True) if key in told else one for key, one in after.items()}, ripe


def _burning(facts: Facts, now: datetime) -> Iterator[Trouble]:
    for promise, allowed in promises(facts.spec).items():
        for burn in BURNS:
            long, short = (facts.minutes.kept(promise, window_s, now) for window_s in (burn.long_s, burn.short_s))
            beyond = [each.ratio is not None and each.ratio > burn.threshold(allowed) for each in (long, short)]
            if all(beyond) and short.asked >= FEWEST:
                summary = (
                    f"{promise} is missed by {long.missed} of {long.asked} requests within {burn.long_s / 3600:g} h"
                )
                yield Trouble(burn.alert, promise, burn.severity, 0, summary)


def _jumped(facts: Facts, now: datetime) -> Iterator[Trouble]:
    is_p99, asked = facts.minutes.ttft(0.99, JUMPED_WINDOW_S, now)
    was_p99, _ = facts.minutes.ttft(0.99, JUMPED_WINDOW_S, now - timedelta(hours=1))
    if is_p99 is not None and was_p99 is not None and asked > JUMPED_REQUESTS and is_p99 > JUMPED_TIMES * was_p99:
        summary = f"P99 time to first token is {is_p99:.3g} s, was {was_p99:.3g} s an hour ago"
        yield Trouble.of(JUMPED, summary)


def _load(facts: Facts) -> Iterator[Trouble]:
    waiting = facts.waiting[-1] if facts.waiting else None
    if waiting is not None and facts.running is not None and waiting > facts.running and _grows(facts.waiting):
        summary = f"{waiting:g} requests wait, {facts.running:g} run, and more wait every minute"
        yield Trouble.of(QUEUE_GROWS, summary)
    if facts.kv_usage_percent is not None and facts.kv_usage_percent > KV_FULL_PERCENT:
        summary = f"a KV cache is {facts.kv_usage_percent:.0f} % full: preemptions follow"
        yield Trouble.of(KV_CACHE_FULL, summary)
    if facts.preemptions_per_s is not None and facts.preemptions_per_s > PREEMPTIONS_PER_S:
        summary = f"{facts.preemptions_per_s:.2g} requests a second are put back for lack of KV cache"
        yield Trouble.of(PREEMPTIONS, summary)


def _gpus(facts: Facts) -> Iterator[Trouble]:
    """A busy GPU is what is paid for: only with waiting requests does it ask for more replicas."""
    waiting = facts.waiting[-1] if facts.waiting else None
    if facts.gpu_percent is not None and facts.gpu_percent > GPU_BUSY_PERCENT:
        summary = f"GPUs are {facts.gpu_percent:.0f} % busy"
        yield Trouble.of(GPUS_BUSY, summary)
        if waiting:
            yield Trouble.of(GPUS_BUSY_AND_QUEUED, f"{summary} and {waiting:g} requests wait")
    for each in facts.gpus:
        if each.harm:
            where = f"{each.engine}/{each.reading.gpu}"
            summary = f"GPU {each.reading.gpu} of {each.engine} is held back: {', '.join(each.harm)}"
            yield Trouble.of(GPU_THROTTLED, summary, about=where)


def _replicas(facts: Facts) -> Iterator[Trouble]:
    for engine in facts.hanging:
        yield Trouble.of(ENGINE_DOWN, f"{engine} does not answer", about=engine)
    if facts.failed >= FLAPPING:
        yield Trouble.of(REPLICAS_FLAP, f"{facts.failed} engines failed within half an hour")


def _others(facts: Facts) -> Iterator[Trouble]:
    if facts.halted is not None:
        yield Trouble.of(ROLLOUT_HALTED, f"rollout {facts.halted}: a person must act", about=facts.halted)
    if facts.stuck is not None:
        where = f"rollout {facts.stuck.rollout} is {facts.stuck.state}, and no step began or ended for"
        summary = f"{where} {facts.stuck.stays_s / 60:.0f} min: {facts.stuck.reason or 'no reason is known'}"
        yield Trouble.of(ROLLOUT_STUCK, summary, about=facts.stuck.rollout)
    for schedule in facts.load.regressed:
        yield Trouble.of(REPLAY_REGRESSED, f"the last replay of {schedule} was worse than its baseline", about=schedule)
    if facts.load.behind is not None:
        yield Trouble.of(GENERATOR_BEHIND, f"the last load test says nothing: {facts.load.behind}")
    budget = facts.spec.alerts.usd_per_day
    if budget is not None and facts.usd_per_hour is not None and 24 * facts.usd_per_hour > budget:
        summary = f"what runs costs {24 * facts.usd_per_hour:.2f} USD a day, {budget:g} are declared"
        yield Trouble.of(BUDGET_EXCEEDED, summary)


def _grows(values: Sequence[float | None]) -> bool:
    """Say whether known values rise, by the slope of their least squares line."""
    known = [(place, value) for place, value in enumerate(values) if value is not None]
    if len(known) < 3:
        return False
    middle = sum(place for place, _ in known) / len(known)
    return sum((place - middle) * value for place, value in known) > 0
