"""The controller: who leads, and its pass over all services."""

from __future__ import annotations

import logging
import socket
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from controlplane.adapters.gateway.judged_files import JudgedFiles
from controlplane.adapters.gateway.record_feed import SpooledFeed
from controlplane.adapters.gateway.scores_spool import SpooledScores
from controlplane.adapters.gateway.traffic import GatewayTraffic
from controlplane.adapters.store_sql.fence import LEADER
from controlplane.domain.base import ServiceName
from controlplane.domain.cluster import RouteOptions
from controlplane.domain.errors import InvalidInput, unreadable
from controlplane.ports.gateways import RecordFeed, TrafficRouter
from controlplane.settings import ClusterAccess, Settings
from controlplane.wiring.gpus import gpus_of_host
from controlplane.wiring.machine import installation_clock, open_store, secret_in
from controlplane.wiring.shared import Shared
from controlplane.worker import Bell, telling

if TYPE_CHECKING:
    from controlplane.adapters.fleet_kubernetes.lease import LeaseElection

log = logging.getLogger(__name__)


def leader_election(settings: Settings, cluster: ClusterAccess, *, on_end: Callable[[str], None]) -> LeaseElection:
    """Return this process's candidacy for the lead of the installation on a cluster."""
    from controlplane.adapters.fleet_kubernetes.door import open_door
    from controlplane.adapters.fleet_kubernetes.lease import LeaseElection

    return LeaseElection(
        open_door(cluster.kubeconfig, cluster.context),
        namespace=cluster.namespace,
        name="fleetune-controller",
        identity=f"{socket.gethostname()}_{uuid.uuid4()}",
        on_end=on_end,
    )


def leader_number(settings: Settings) -> int:
    """Return a number larger than that of every controller before: the store refuses theirs from now on."""
    store = open_store(settings)
    try:
        return store.next_number(LEADER)
    finally:
        store.close()


def record_feed(settings: Settings) -> RecordFeed:
    """Return the one reader of the gateways' records in the controller's process: its pass and those beside it."""
    return SpooledFeed(settings.data_dir)


def controller_pass(
    settings: Settings, shared: Shared, records: RecordFeed, *, leader: int | None = None, bell: Bell | None = None
) -> Callable[[], bool]:
    """Return one pass of the controller; it waits for the next tick, unless somebody waits for what was decided.

    The bell rings when an engine of this host has become ready, and every two seconds while one starts.
    """
    from controlplane.adapters.metrics_scrape.pressures import EnginePressures
    from controlplane.services.controller.reconcile import Controller
    from controlplane.services.studies.manage import create_study

    traffic = gateway_traffic(settings, shared)
    controller = Controller(
        store=open_store(settings, leader=leader),
        fleet=shared.fleet(when_looked=None if bell is None else bell.ring),
        router=_router(settings, traffic),
        flights=traffic,
        news=traffic,
        records=records,
        scores=SpooledScores(settings.data_dir),
        judged=JudgedFiles(settings.data_dir, clock=installation_clock(settings)),
        clock=installation_clock(settings),
        create_study=create_study,
        pressures=EnginePressures(clock=installation_clock(settings), gpus=gpus_of_host(settings)),
    )

    tell = telling(controller.run_pass, log)
    return lambda: tell() or controller.is_awaited


def _router(settings: Settings, gateways: GatewayTraffic) -> TrafficRouter:
    """Return what splits traffic: the gateways and, on a cluster, its own one for services that ask for a route."""
    cluster = settings.cluster
    if cluster is None:
        return gateways
    from controlplane.adapters.every_router import EveryRouter
    from controlplane.adapters.fleet_kubernetes.door import open_door
    from controlplane.adapters.fleet_kubernetes.routes import RouteTraffic

    store = open_store(settings)

    def options(service: ServiceName) -> RouteOptions | None:
        described = store.get_service(service).value.spec.kubernetes
        return None if described is None else described.route

    door = open_door(cluster.kubeconfig, cluster.context)
    return EveryRouter([gateways, RouteTraffic(door, cluster.namespace, options=options)])


def gateway_traffic(settings: Settings, shared: Shared) -> GatewayTraffic:
    """Return what reaches every gateway of the installation. Raises InvalidInput for an authority that is none."""
    token, trust = secret_in(settings.admin_token_file), settings.cluster and settings.cluster.admin_trust
    if not trust:
        return GatewayTraffic(shared.find_gateways, admin_token=token)
    try:
        return GatewayTraffic(shared.find_gateways, admin_token=token, ca=trust.ca, server_name=trust.server_name)
    except OSError as error:
        raise InvalidInput(
            f"cannot trust gateways by {trust.ca}", why=unreadable(error), allowed="a PEM file with certificates"
        ) from error
