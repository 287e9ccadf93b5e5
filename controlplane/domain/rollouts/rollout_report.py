"""Everything about one rollout in one value: for somebody who was asleep."""

from __future__ import annotations

from pydantic import Field

from controlplane.domain.base import Value
from controlplane.domain.engines.engine import EngineKind
from controlplane.domain.event import Event
from controlplane.domain.rollouts.analysis import Promise
from controlplane.domain.rollouts.looks import Look
from controlplane.domain.rollouts.rollout import Rollout
from controlplane.domain.slo import SloSet


class RolloutReport(Value):
    rollout: Rollout
    engine: EngineKind
    gpu: str
    time_lapse: float
    slos: SloSet
    changes: tuple[str, ...] = Field(description="What the canary has different from stable: flags, model, engine.")
    promise: Promise | None = Field(default=None, description="None: not from a study, or it is gone.")
    looks: tuple[Look, ...] = Field(
        default=(), description="Intervals and the canary's share as time went on: at most some forty of each step."
    )
    events: tuple[Event, ...] = Field(description="What happened, oldest first, who did it and why.")
