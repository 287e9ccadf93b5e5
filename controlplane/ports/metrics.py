"""What engines and their GPUs say of themselves, now and before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from controlplane.domain.base import EngineId
from controlplane.domain.engines.engine_metrics import EngineNumber, EngineNumbers, NumberAt
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.engines.gpu import EngineGpu, GpuReading
from controlplane.domain.operations.own_metrics import OwnSeries
from controlplane.domain.rollouts.pressure import Pressure


class MetricsSource(Protocol):
    """What engines say of themselves, from wherever it is collected. Stale or missing is None, never zero."""

    def read(self, model: str) -> EngineNumbers:
        """Return the newest numbers of all engines of a served model name. Raises Unavailable."""

    def series(
        self, model: str, number: EngineNumber, *, since: datetime, until: datetime, step_s: float
    ) -> Sequence[NumberAt]:
        """Return one number at `since`, and every `step_s` (whole seconds) until `until`. Raises Unavailable."""

    def gpus(self, model: str) -> Sequence[EngineGpu]:
        """Return each GPU of a model's engines as last told, by engine and number; stale ones are left out.

        Raises Unavailable.
        """


class OwnMetrics(Protocol):
    """What gateways and the control plane told of themselves within the last day."""

    def names(self, *, since: datetime) -> Sequence[str]:
        """Return the names of all series told since then. Raises Unavailable."""

    def series(self, name: str, *, since: datetime, until: datetime, step_s: float) -> Sequence[OwnSeries]:
        """Return every series of a name after `since` and up to `until`: of each step the last point, if any.

        Raises Unavailable.
        """


class PressureView(Protocol):
    """What single engines say of themselves now, for who looks twice a second."""

    def read(self, engines: Sequence[Engine]) -> Mapping[EngineId, Pressure]:
        """Return the newest of each engine, at most some seconds old; never waits for an engine.

        One of which nothing is known yet, or that does not answer, is left out.
        """


class GpuSource(Protocol):
    """The GPUs of a host, asked directly."""

    def read(self, engines: Sequence[Engine]) -> Mapping[EngineId, Sequence[GpuReading]]:
        """Return what the GPUs of each engine say now; an engine of whose GPUs nothing is known is left out.

        Raises Unavailable when no GPU can be asked.
        """
