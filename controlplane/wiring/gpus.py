"""The GPUs of this host, for whoever watches its engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from controlplane.adapters.gpus_nvml import NvmlGpus
from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.engines.gpu import GpuReading
from controlplane.ports.metrics import GpuSource
from controlplane.ports.store import Store
from controlplane.services.fleet.world import service_of
from controlplane.settings import Settings
from controlplane.wiring.machine import open_store


def gpus_of_host(settings: Settings) -> GpuSource | None:
    """Return where engines' GPUs can be asked; None on a cluster, where they are on other hosts."""
    return None if settings.cluster is not None else _GpuPlaces(open_store(settings), NvmlGpus())


class _GpuPlaces:
    """The GPUs of this host, for engines that hold any: a place of a CPU pool has a number too, and no GPU."""

    def __init__(self, store: Store, gpus: GpuSource) -> None:
        self._store = store
        self._gpus = gpus

    def read(self, engines: Sequence[Engine]) -> Mapping[EngineId, Sequence[GpuReading]]:
        """See `ports.GpuSource.read`."""
        without = {service.name for service, _ in self._store.list_services() if service.spec.gpus.is_cpu}
        return self._gpus.read([each for each in engines if service_of(each) not in without])
