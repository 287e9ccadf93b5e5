"""Replicas on GPUs that their owner may take back at a notice: how many must not be, and what a notice means. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from pydantic import AwareDatetime, Field

from controlplane.domain.base import EngineId, Value
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.hardware import GpuPool, usd_per_hour

SHORTEST_NOTICE_S = 30.0
"""What the clouds give at least; what a notice without a time is taken for."""
_MARGIN = timedelta(seconds=2)


class Cloud(StrEnum):
    """Whose metadata service a host asks whether it is taken back."""

    EC2 = "ec2"
    GCE = "gce"
    AZURE = "azure"


class SpotOptions(Value):
    """What a user says about spot GPUs in service.yaml. Without it every replica runs on demand."""

    on_demand_replicas: int = Field(
        default=1, ge=0, description="At least so many replicas of a revision run on demand; the others may be spot."
    )
    price_usd_per_gpu_hour: float | None = Field(
        default=None, ge=0, description="Of a spot GPU. None: as one on demand."
    )

    trials: bool = Field(
        default=False,
        description="Trials of studies run on spot GPUs while such are free, a trial's last attempt on demand. One "
        "that is taken back is tried again.",
    )

    def floor(self, replicas: int) -> int:
        """Return how many of so many replicas run on demand at least."""
        return min(self.on_demand_replicas, replicas)


class Held(NamedTuple):
    """GPUs that engines hold."""

    firm: int
    spot: int = 0

    def usd_per_hour(self, pool: GpuPool, options: SpotOptions | None) -> float:
        """Return their price, spot ones at their own where one is named."""
        price = None if options is None else options.price_usd_per_gpu_hour
        return usd_per_hour(pool, self.firm) + self.spot * (pool.price_usd_per_gpu_hour if price is None else price)


def held_by(engines: Iterable[Engine]) -> Held:
    """Return the GPUs that engines hold which are not over."""
    held = [engine.spec for engine in engines if not engine.state.is_over]
    return Held(firm=sum(each.gpus for each in held if not each.spot), spot=sum(e.gpus for e in held if e.spot))


class Notice(Value):
    """What somebody takes back: GPUs of this host by their indices, or a node; neither: everything here."""

    gpus: frozenset[int] | None = None
    node: str | None = None
    ends_at: AwareDatetime | None = Field(default=None, description="None: nobody says when.")
    why: str

    def takes(self, engine: Engine) -> bool:
        """Say whether an engine loses what it runs on."""
        if self.node is not None:
            return engine.node == self.node
        return self.gpus is None or not self.gpus.isdisjoint(engine.gpu_indices)


class Reclaim(Value):
    """A notice that was taken in for one engine."""

    noticed_at: AwareDatetime
    ends_at: AwareDatetime
    why: str

    def is_let_in(self, now: datetime) -> bool:
        """Say whether the last engine of a revision still gets requests: one half for these, one to finish them."""
        return now < self.noticed_at + (self.ends_at - self.noticed_at) / 2

    def left_s(self, now: datetime) -> float:
        """Return how many seconds are left to finish in, none when it is over."""
        return max(0.0, (self.ends_at - _MARGIN - now).total_seconds())


class Reclaims(Value):
    """Every engine that is to go, until the fleet has forgotten it."""

    engines: Mapping[EngineId, Reclaim] = Field(default_factory=dict)


def taken_in(notice: Notice, now: datetime) -> Reclaim:
    """Return what a notice means for an engine, seen now."""
    shortest = now + timedelta(seconds=SHORTEST_NOTICE_S)
    return Reclaim(noticed_at=now, ends_at=notice.ends_at or shortest, why=notice.why)


def seen_again(known: Reclaim | None, notice: Notice, now: datetime) -> Reclaim:
    """Return the notice an engine has from now on: the first one, whose end may only come nearer."""
    if known is None:
        return taken_in(notice, now)
    if notice.ends_at is None or notice.ends_at >= known.ends_at:
        return known
    return known.evolve(ends_at=notice.ends_at)
