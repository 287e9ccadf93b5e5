"""Is everything all right? One word per service, and why it is not a better one. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from pydantic import AwareDatetime, Field

from controlplane.domain.base import EngineId, Value
from controlplane.domain.engines.gpu import EngineGpu
from controlplane.domain.operations.autoscale import ScaleDecision
from controlplane.domain.operations.live import CheckState, Live
from controlplane.domain.operations.space import Space
from controlplane.domain.operations.spot import Reclaim
from controlplane.domain.rollouts.rollout import Rollout, RolloutState
from controlplane.domain.serving import Service

FULL_BYTES = 64 * 2**20
"""Less is as good as none: a log before its rotation and the store's own journal take more. It is told much earlier."""


class Standing(StrEnum):
    """From the best to the worst; a service stands as its worst reason does."""

    RIGHT = "right"
    WATCH = "watch"  # nobody suffers yet
    WRONG = "wrong"  # a promise is broken, or a person must act


class Finding(Value):
    standing: Standing
    text: str


class ServiceHealth(Value):
    """One service on one line."""

    service: str
    standing: Standing
    findings: tuple[Finding, ...] = Field(default=(), description="The worst first; none: nothing to say.")
    ready: int
    wanted: int
    rps: float | None = Field(default=None, description="Finished requests per second, engine time; None: not known.")
    attainment: float | None = None
    rollout: str | None = None
    gpus: tuple[EngineGpu, ...] = Field(default=(), description="As last told; none: nobody tells.")
    saved_usd_per_hour: float | None = Field(default=None, description="Against the baseline of what it rests on.")


class InstallationHealth(Value):
    at: AwareDatetime
    standing: Standing
    services: tuple[ServiceHealth, ...]
    free_gpus: int
    studies_running: int
    findings: tuple[Finding, ...] = Field(default=(), description="Of no one service.")


_ORDER = tuple(Standing)
STUCK_S = 60.0
"""A pass takes two seconds by its budget; one of a host that swaps takes longer."""


def worst(findings: Sequence[Finding]) -> Standing:
    """Return how a thing with these findings stands."""
    return max((each.standing for each in findings), key=_ORDER.index, default=Standing.RIGHT)


class Replicas(NamedTuple):
    """How many of a service's engines can be given traffic, are wanted, were ready but do not answer, and sleep."""

    ready: int
    wanted: int
    hanging: int = 0
    asleep: int = 0


def controller_findings(passed_s_ago: float | None) -> Sequence[Finding]:
    """Say whether the controller still acts, by the seconds since its last pass; None: nobody knows."""
    if passed_s_ago is None or passed_s_ago <= STUCK_S:
        return ()
    text = f"the controller finished no pass for {passed_s_ago:.0f} s: nothing scales, heals or goes out; see its log"
    return (Finding(standing=Standing.WRONG, text=text),)


def space_findings(space: Space | None) -> Sequence[Finding]:
    """Say that what is kept has hardly any room left: by then nothing can be decided, started or recorded."""
    if space is None or space.free >= FULL_BYTES:
        return ()
    free = f"{space.free / 2**20:.0f} MiB are free where the data folder lies"
    text = f"{free}: nothing can be kept, started or scaled; make room, the rest goes on by itself"
    return (Finding(standing=Standing.WRONG, text=text),)


def alert_findings(alerts: Mapping[str, datetime]) -> Sequence[Finding]:
    """Say which alerts last, by when each was told."""
    return [
        Finding(standing=Standing.WATCH, text=f"alert {name}, told {at:%d %b %H:%M} UTC") for name, at in alerts.items()
    ]


def service_health(  # noqa: PLR0913 - all by keyword: everything that is looked at
    service: Service,
    *,
    replicas: Replicas,
    live: Live | None,
    rollout: Rollout | None,
    scaling: ScaleDecision | None,
    alerts: Mapping[str, datetime],
    gpus: Sequence[EngineGpu] = (),
    reclaimed: Mapping[EngineId, Reclaim] | None = None,
    unknown: Sequence[str] = (),
) -> ServiceHealth:
    """Judge one service. `live` None: the gateways' records cannot be read. `alerts` last; when each was told.

    `unknown`: what its description names and nobody knows here.
    """
    found = [
        *_replicas(service, replicas),
        *([Finding(standing=Standing.WATCH, text="live records cannot be read")] if live is None else _promises(live)),
        *_rollout(rollout),
        *_scaling(scaling),
        *alert_findings(alerts),
        *_throttled(gpus),
        *_reclaimed(reclaimed or {}),
        *(Finding(standing=Standing.WATCH, text=text) for text in unknown),
    ]
    found.sort(key=lambda each: -_ORDER.index(each.standing))
    overall = None if live is None else live.overall
    return ServiceHealth(
        service=service.name,
        standing=worst(found),
        findings=tuple(found),
        ready=replicas.ready,
        wanted=replicas.wanted,
        rps=None if overall is None else overall.rps,
        attainment=None if overall is None else overall.attainment,
        rollout=None if rollout is None else f"{rollout.rollout_id} {rollout.state} {rollout.weight_percent} %",
        gpus=tuple(gpus),
    )


def _replicas(service: Service, replicas: Replicas) -> Iterator[Finding]:
    ready, wanted, hanging, asleep = replicas
    if service.stopped:
        return
    if service.spec.shares is not None and asleep and not ready:
        text = f"asleep until it is asked: it takes turns on the GPUs of {service.spec.shares.pool}"
        yield Finding(standing=Standing.RIGHT, text=text)
    elif wanted and not ready:
        yield Finding(standing=Standing.WRONG, text=f"none of {wanted} replicas is ready")
    elif ready < wanted:
        yield Finding(standing=Standing.WATCH, text=f"{ready} of {wanted} replicas are ready")
    if hanging:
        yield Finding(standing=Standing.WATCH, text=f"{hanging} replicas hang and get no traffic")
    if service.stable is None:
        yield Finding(standing=Standing.WATCH, text="nothing serves yet")


def _promises(live: Live) -> Iterator[Finding]:
    for check in live.checks:
        if check.state is CheckState.MISSED and check.miss_ratio is not None:
            text = f"{check.slo} is missed by {check.miss_ratio:.1%} of {check.samples} requests"
            yield Finding(standing=Standing.WRONG, text=text)
    errors = live.overall.error_ratio
    if errors is not None and errors > live.slos.max_error_ratio:
        yield Finding(standing=Standing.WRONG, text=f"{errors:.1%} of {live.overall.requests} requests failed")


def _rollout(rollout: Rollout | None) -> Iterator[Finding]:
    if rollout is None:
        return
    match rollout.state:
        case RolloutState.HALTED:
            yield Finding(standing=Standing.WRONG, text=f"rollout {rollout.rollout_id} is halted: a person must act")
        case RolloutState.PAUSED | RolloutState.ABORTING:
            yield Finding(standing=Standing.WATCH, text=f"rollout {rollout.rollout_id} is {rollout.state}")
        case (
            RolloutState.PENDING
            | RolloutState.PROGRESSING
            | RolloutState.PROMOTING
            | RolloutState.PROMOTED
            | RolloutState.ABORTED
        ):
            return


def _scaling(decision: ScaleDecision | None) -> Iterator[Finding]:
    if decision is not None and decision.held:
        yield Finding(standing=Standing.WATCH, text=f"the autoscaler holds: {decision.reason}")


def _throttled(gpus: Sequence[EngineGpu]) -> Iterator[Finding]:
    for each in gpus:
        if each.harm:
            text = f"GPU {each.reading.gpu} of {each.engine} is held back: {'; '.join(each.harm)}"
            yield Finding(standing=Standing.WATCH, text=text)


def _reclaimed(reclaimed: Mapping[EngineId, Reclaim]) -> Iterator[Finding]:
    for engine, each in reclaimed.items():
        text = f"{engine} is taken away at {each.ends_at:%H:%M:%S} UTC: {each.why}"
        yield Finding(standing=Standing.WATCH, text=text)
