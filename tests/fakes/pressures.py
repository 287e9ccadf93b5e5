"""A PressureView in memory: what each engine says is what it was given last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.rollouts.pressure import Pressure


class FakePressures:
    """Engines that were told nothing of say nothing."""

    def __init__(self) -> None:
        self.told: dict[EngineId, Pressure] = {}

    def read(self, engines: Sequence[Engine]) -> Mapping[EngineId, Pressure]:
        """See `ports.PressureView.read`."""
        wanted = {each.spec.engine_id for each in engines}
        return {name: told for name, told in self.told.items() if name in wanted}
