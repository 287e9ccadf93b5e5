"""What every process of an installation has: its clock, its store, its engines."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from controlplane.adapters.fleet_processes.devices import HostGpus, nvidia_gpus
from controlplane.adapters.fleet_processes.fleet import FleetProcesses
from controlplane.adapters.fleet_processes.looks import Pace
from controlplane.adapters.reclaims.files import AskCloud, ReclaimFolder
from controlplane.adapters.store_sql.store import SqlStore
from controlplane.adapters.store_sql.store import open_store as open_sql
from controlplane.domain.base import ServiceName
from controlplane.domain.cluster import ClusterOptions
from controlplane.domain.errors import Unavailable
from controlplane.domain.owner import Owner, ReplayOwner, ReplicaOwner, TrialOwner
from controlplane.domain.service import ServiceSpec
from controlplane.host.clock import steady_clock
from controlplane.ports import Clock
from controlplane.ports.fleet import Fleet
from controlplane.ports.reclaims import ReclaimNotices
from controlplane.ports.store import Store
from controlplane.services.keys import list_keys
from controlplane.settings import ClusterAccess, Settings

if TYPE_CHECKING:
    from controlplane.adapters.fleet_kubernetes.fleet import FleetKubernetes

STOP_ENGINES_S = 30.0


def installation_clock(settings: Settings) -> Clock:
    """Return the clock every process of the installation lives by. Raises Unavailable when its file cannot be kept."""
    try:
        return steady_clock(settings.data_dir)
    except OSError as error:
        raise Unavailable(f"cannot write to {settings.data_dir}", why=error.strerror or str(error)) from error


def open_store(settings: Settings, *, leader: int | None = None) -> SqlStore:
    """Return the installation's store at its newest schema. Raises Unavailable when it cannot be used.

    With `leader`, the number drawn when a controller took the lead, it refuses to write once another leads.
    """
    return open_sql(settings.database, leader=leader)


def open_fleet(settings: Settings, *, when_looked: Callable[[], None] | None = None) -> Fleet:
    """Return the engines of this host, or of the installation's cluster. Raises InvalidInput when there is no such.

    On a host `when_looked` is called as soon as an engine that starts has become ready, or is to be looked at again.
    """
    if settings.cluster is not None:
        return open_cluster_fleet(settings, settings.cluster)
    return FleetProcesses(
        settings.engines_dir,
        gpus=HostGpus(settings.gpus, frozenset(settings.spot_gpus), reclaim_folder(settings).leaving),
        clock=installation_clock(settings),
        pace=Pace() if when_looked is None else Pace(when_looked=when_looked),
    )


def reclaim_notices(settings: Settings) -> ReclaimNotices:
    """Return who says that GPUs of this host are taken back: its folder, and its cloud where one is to be asked."""
    if settings.reclaims_from is None:
        return reclaim_folder(settings)
    from controlplane.adapters.reclaims.metadata import CloudMetadata

    return reclaim_folder(
        settings, ask_cloud=CloudMetadata(settings.reclaims_from, url=settings.reclaims_url).taken_back_at
    )


def reclaim_folder(settings: Settings, *, ask_cloud: AskCloud | None = None) -> ReclaimFolder:
    """Return the notices that lie on this host."""
    return ReclaimFolder(
        settings.reclaims_dir, gpus=settings.gpus, clock=installation_clock(settings), ask_cloud=ask_cloud
    )


def open_cluster_fleet(settings: Settings, cluster: ClusterAccess) -> FleetKubernetes:
    """Return the engines of a cluster. Raises InvalidInput when there is no such."""
    from controlplane.adapters.fleet_kubernetes.door import open_door
    from controlplane.adapters.fleet_kubernetes.fleet import FleetKubernetes
    from controlplane.adapters.fleet_kubernetes.preflight import described_for

    store = open_store(settings)

    def options(owner: Owner) -> ClusterOptions:
        return described_for(store.get_service(_service_of(store, owner)).value.spec, cluster.namespace)

    return FleetKubernetes(
        open_door(cluster.kubeconfig, cluster.context),
        namespace=cluster.namespace,
        options=options,
        spot_labels=lambda: _spot_labels(store),
        clock=installation_clock(settings),
    )


def _spot_labels(store: Store) -> Sequence[Mapping[str, str]]:
    """Return the labels by which services tell spot nodes from others."""
    described = [service.spec.kubernetes for service, _ in store.list_services()]
    return [each.spot.node_selector for each in described if each is not None and each.spot is not None]


def _service_of(store: Store, owner: Owner) -> ServiceName:
    match owner:
        case ReplicaOwner() | ReplayOwner():
            return owner.service
        case TrialOwner():
            return store.get_study(owner.study_id).value.spec.service


def reach_cluster(
    kubeconfig: Path | None, context: str | None, namespace: str | None, specs: Sequence[ServiceSpec]
) -> ClusterAccess:
    """Return a cluster that was asked whether these services can run there; its namespace is the context's by default.

    Raises what `check_cluster` raises, and InvalidInput when no cluster is known.
    """
    from controlplane.adapters.fleet_kubernetes.door import context_namespace, open_door
    from controlplane.adapters.fleet_kubernetes.preflight import check_cluster

    chosen = namespace or context_namespace(kubeconfig, context) or "default"
    check_cluster(open_door(kubeconfig, context), chosen, specs)
    return ClusterAccess(
        namespace=chosen, kubeconfig=None if kubeconfig is None else kubeconfig.resolve(), context=context
    )


def host_gpus() -> tuple[int, ...]:
    """Return the indices of this host's real GPUs. Raises InvalidInput when there is none."""
    return nvidia_gpus()


def has_keys(store: Store) -> bool:
    """Say whether any API key exists."""
    return bool(list_keys(store))


def stop_all_engines(settings: Settings) -> None:
    """Drain and stop every engine of the installation; kill what is left after a while."""
    fleet = open_fleet(settings)
    _stop_until_gone(fleet, drain_s=STOP_ENGINES_S / 2, within_s=STOP_ENGINES_S)
    _stop_until_gone(fleet, drain_s=0, within_s=STOP_ENGINES_S)


def _stop_until_gone(fleet: Fleet, *, drain_s: float, within_s: float) -> None:
    give_up_s = time.monotonic() + within_s
    while time.monotonic() < give_up_s:
        engines = [engine for engine in fleet.list() if not engine.state.is_over]
        if not engines:
            return
        for engine in engines:
            fleet.stop(engine.spec.engine_id, drain_s=drain_s)
        time.sleep(0.2)


def secret_in(path: Path) -> str | None:
    return path.read_text().strip() if path.exists() else None
