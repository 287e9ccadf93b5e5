"""Hold the canary's engines to stable's by what they say of themselves, at every look."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from controlplane.domain.base import ServiceName
from controlplane.domain.rollouts.guards import Rail
from controlplane.domain.rollouts.leaks import leak
from controlplane.domain.rollouts.pressure import Loads, PressureLog, strain
from controlplane.domain.rollouts.rollout import Rollout
from controlplane.ports.metrics import PressureView
from controlplane.services.fleet.world import World


class StrainWatch:
    """Keeps what engines said, service by service; a new controller begins with nothing, and knows within seconds."""

    def __init__(self, pressures: PressureView) -> None:
        self._pressures = pressures
        self._logs: dict[ServiceName, PressureLog] = {}

    def rails(
        self, world: World, rollout: Rollout, loads: Loads, *, time_lapse: float, now: datetime
    ) -> Sequence[Rail]:
        """Return the guard rails that engines' own numbers are held to."""
        arms = [world.ready(each) for each in (rollout.canary, rollout.stable)]
        log = self._logs.setdefault(rollout.service, PressureLog())
        log.add(self._pressures.read([engine for arm in arms for engine in arm]))
        mine, theirs = (log.of([engine.spec.engine_id for engine in arm]) for arm in arms)
        options = rollout.options
        return [
            ("engine_strain", strain(mine, theirs, loads, options, now=now, time_lapse=time_lapse)),
            ("memory_growth", leak(mine, theirs, loads, options)),
        ]
