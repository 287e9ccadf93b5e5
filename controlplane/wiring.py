"""Builds the adapters and gives them to the use cases: the only module that knows both.

What only some processes need is imported where it is built: Locust's runner, Optuna, scipy and the compiled twin are
200 MiB and three seconds that the command line, the api and the controller do without.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from controlplane.adapters.fleet_processes.devices import nvidia_gpus
from controlplane.adapters.fleet_processes.fleet import FleetProcesses
from controlplane.adapters.gateway.records_spool import SpooledRecords
from controlplane.adapters.gateway.scores_spool import SpooledScores
from controlplane.adapters.gateway.traffic import FindGateways, GatewayTraffic, running_gateways
from controlplane.adapters.metrics_scrape.samples import SampleStore
from controlplane.adapters.metrics_scrape.scrape import Scraper
from controlplane.adapters.metrics_scrape.source import ScrapedMetrics
from controlplane.adapters.store_sql.fence import LEADER
from controlplane.adapters.store_sql.store import SqlStore
from controlplane.adapters.store_sql.store import open_store as open_sql
from controlplane.domain.base import ServiceName, StudyId
from controlplane.domain.cluster import ClusterOptions, RouteOptions
from controlplane.domain.errors import Unavailable
from controlplane.domain.owner import Owner, ReplayOwner, ReplicaOwner, TrialOwner
from controlplane.domain.service import ServiceSpec
from controlplane.host.addresses import is_loopback
from controlplane.host.clock import steady_clock
from controlplane.ports import Clock
from controlplane.ports.fleet import Fleet
from controlplane.ports.gateways import TrafficRouter
from controlplane.ports.load import LoadTester
from controlplane.ports.store import Store
from controlplane.reading.issuers_file import load_issuers
from controlplane.services.keys import list_keys
from controlplane.settings import ClusterAccess, Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from controlplane.adapters.fleet_kubernetes.lease import LeaseElection
    from controlplane.services.replays.run_replay import ReplayRunner
    from controlplane.services.rollouts.match_load import LoadMatcher
    from controlplane.services.studies.run_study import StudyProgress, StudyRunner
    from controlplane.tokens.door import TokenDoor

log = logging.getLogger(__name__)

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


def open_fleet(settings: Settings) -> Fleet:
    """Return the engines of this host, or of the installation's cluster. Raises InvalidInput when there is no such."""
    if settings.cluster is not None:
        return _open_cluster(settings, settings.cluster)
    return FleetProcesses(settings.engines_dir, gpus=settings.gpus, clock=installation_clock(settings))


def _open_cluster(settings: Settings, cluster: ClusterAccess) -> Fleet:
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
        clock=installation_clock(settings),
    )


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


def build_app(settings: Settings, *, caller: str | None = None) -> FastAPI:
    """Return the API. With `caller` every request is that trusted actor's: for calls from inside this process."""
    from controlplane.api.app import create_app

    return create_app(
        store=open_store(settings),
        records=SpooledRecords(settings.data_dir),
        scores=SpooledScores(settings.data_dir),
        fleet_view=open_fleet(settings),
        clock=installation_clock(settings),
        open_without_keys=is_loopback(settings.host),
        trusted_as=caller,
        own_secrets=_own_secrets(settings),
        gpus=settings.gpus,
        tokens=None if caller else _tokens(settings),
        metrics=ScrapedMetrics(SampleStore(settings.metrics_file), clock=installation_clock(settings)),
    )


def _tokens(settings: Settings) -> TokenDoor | None:
    """Trust the tokens of the issuers that the installation names. Raises InvalidInput for a bad file."""
    issuers = load_issuers(settings.issuers_file)
    if not issuers:
        return None
    from controlplane.tokens.door import TokenDoor
    from controlplane.tokens.fetch import fetch_keys

    return TokenDoor(issuers, fetch_keys, time.monotonic)


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


def controller_pass(settings: Settings, *, leader: int | None = None) -> Callable[[], bool]:
    """Return one pass of the controller; it always waits for the next tick."""
    from controlplane.services.controller.reconcile import Controller
    from controlplane.services.studies.manage import create_study

    traffic = GatewayTraffic(_gateways(settings), admin_token=_secret(settings.admin_token_file))
    controller = Controller(
        store=open_store(settings, leader=leader),
        fleet=open_fleet(settings),
        router=_router(settings, traffic),
        flights=traffic,
        news=traffic,
        records=SpooledRecords(settings.data_dir),
        scores=SpooledScores(settings.data_dir),
        clock=installation_clock(settings),
        create_study=create_study,
    )

    told: set[str] = set()

    def one() -> bool:
        problems = set(controller.run_pass())
        for problem in sorted(problems - told):  # what lasts is said once, not twice a second
            log.warning("%s", problem)
        told.clear()
        told.update(problems)
        return False

    return one


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


def _gateways(settings: Settings) -> FindGateways:
    cluster = settings.cluster
    if cluster is None or not cluster.gateways:
        return running_gateways(settings.data_dir)
    from controlplane.adapters.fleet_kubernetes.door import open_door
    from controlplane.adapters.fleet_kubernetes.gateways import GatewayPods

    return GatewayPods(open_door(cluster.kubeconfig, cluster.context), cluster.namespace).find


def scraper_pass(settings: Settings) -> Callable[[], bool]:
    """Return one round over the pages of all serving engines; the controller's process runs it beside."""
    scraper = Scraper(
        fleet=open_fleet(settings), samples=SampleStore(settings.metrics_file), clock=installation_clock(settings)
    )
    return scraper.run


def watch_pass(settings: Settings, *, leader: int | None = None) -> Callable[[], bool]:
    """Return one look for alerts where no Prometheus does; the controller's process runs it beside."""
    from controlplane.services.operations.watch import AlertWatcher

    clock = installation_clock(settings)
    watcher = AlertWatcher(
        store=open_store(settings, leader=leader),
        fleet=open_fleet(settings),
        records=SpooledRecords(settings.data_dir),
        metrics=ScrapedMetrics(SampleStore(settings.metrics_file), clock=clock),
        router=GatewayTraffic(_gateways(settings), admin_token=_secret(settings.admin_token_file)),
        clock=clock,
    )
    return watcher.run


def notify_pass(settings: Settings, *, leader: int | None = None) -> Callable[[], bool]:
    """Return one round of telling people; the controller's process runs it beside."""
    from controlplane.adapters.notifier import PlainNotifier
    from controlplane.services.operations.notifying import NotifyRunner

    store = open_store(settings, leader=leader)
    return NotifyRunner(store=store, notifier=PlainNotifier(), clock=installation_clock(settings)).run


def answers_pass(settings: Settings, *, leader: int | None = None) -> Callable[[], bool]:
    """Return one pass that compares a canary's answers with stable's; the controller's process runs it beside."""
    from controlplane.adapters.quality_openai import OpenAiQualityProbe
    from controlplane.services.rollouts.answers import AnswerComparer

    comparer = AnswerComparer(
        store=open_store(settings, leader=leader), fleet=open_fleet(settings), probe=OpenAiQualityProbe()
    )
    return comparer.run_next


def adapter_pass(settings: Settings, *, leader: int | None = None) -> Callable[[], bool]:
    """Return one pass that gives every replica its adapters; the controller's process runs it beside."""
    from controlplane.adapters.engine_adapters import EngineAdapters
    from controlplane.services.adapters.keep import AdapterKeeper

    keeper = AdapterKeeper(
        store=open_store(settings, leader=leader),
        fleet=open_fleet(settings),
        loader=EngineAdapters(),
        monotonic=time.monotonic,
    )

    def one() -> bool:
        for problem in keeper.run():
            log.warning("%s", problem)
        return False

    return one


def load_matcher_pass(settings: Settings, stop: threading.Event, *, leader: int | None = None) -> Callable[[], bool]:
    """Return one pass that makes up the load of a canary under judgement; the controller's process runs it beside.

    The load generator is built with the first rollout: an installation without one does without its memory.
    """
    store = open_store(settings, leader=leader)
    built: list[LoadMatcher] = []

    def one() -> bool:
        if not built and all(service.rollout is None for service, _ in store.list_services()):
            return False
        if not built:
            built.append(_load_matcher(settings, store, stop))
        return built[0].run_next()

    return one


def _load_matcher(settings: Settings, store: Store, stop: threading.Event) -> LoadMatcher:
    from controlplane.adapters.gateway.opener import GatewayProcesses
    from controlplane.adapters.gateway.replay_records import ReplayRecords
    from controlplane.adapters.loadtester_locust import LocustLoadTester
    from controlplane.services.rollouts.match_load import LoadMatcher

    return LoadMatcher(
        store=store,
        fleet=open_fleet(settings),
        load_tester=LocustLoadTester(),
        gateways=GatewayProcesses(),
        feed=SpooledRecords(settings.data_dir),
        keep=ReplayRecords(settings.data_dir, clock=installation_clock(settings)).keep,
        clock=installation_clock(settings),
        out_dir=settings.reports_dir,
        should_stop=stop.is_set,
    )


def worker_identity(name: str) -> str:
    """Return what a claim carries: `up` calls its first worker worker-1 on every host that shares a store."""
    return f"{name}@{socket.gethostname()}:{os.getpid()}"


def worker_pass(settings: Settings, name: str, stop: threading.Event) -> Callable[[], bool]:
    """Return one pass of a tuner worker: run the next replay, else run or help a study, until `stop` is set."""
    from controlplane.adapters.loadtester_locust import LocustLoadTester

    tester = LocustLoadTester()
    replays = replay_runner(settings, name, tester, should_stop=stop.is_set)
    studies = study_runner(settings, name, should_stop=stop.is_set, load_tester=tester)
    return lambda: replays.run_next() is not None or studies.run_next() is not None


def replay_runner(
    settings: Settings, name: str, load_tester: LoadTester, *, should_stop: Callable[[], bool]
) -> ReplayRunner:
    """Return a runner of due replays on this host's engines."""
    from controlplane.services.replays.run_replay import ReplayRunner

    return ReplayRunner(
        store=open_store(settings),
        fleet=open_fleet(settings),
        load_tester=load_tester,
        records=SpooledRecords(settings.data_dir),
        clock=installation_clock(settings),
        sleep=time.sleep,
        worker_name=worker_identity(name),
        out_dir=settings.reports_dir,
        should_stop=should_stop,
    )


def help_study(settings: Settings, name: str, study_id: StudyId, *, should_stop: Callable[[], bool]) -> None:
    """Work on one study beside the worker that started it, until it is over, paused or `should_stop` says so."""
    study_runner(settings, name, should_stop=should_stop).join(study_id)


def study_runner(
    settings: Settings,
    name: str,
    *,
    should_stop: Callable[[], bool],
    on_progress: Callable[[StudyProgress], None] = lambda _: None,
    load_tester: LoadTester | None = None,
) -> StudyRunner:
    """Return a runner of studies on this host's engines."""
    from controlplane.adapters.fleet_processes.probes import emulator_lag
    from controlplane.adapters.gateway.opener import GatewayProcesses
    from controlplane.adapters.loadtester_locust import LocustLoadTester
    from controlplane.adapters.quality_openai import OpenAiQualityProbe
    from controlplane.services.studies.run_study import StudyRunner

    store = open_store(settings)
    return StudyRunner(
        store=store,
        fleet=open_fleet(settings),
        load_tester=load_tester or LocustLoadTester(),
        gateways=GatewayProcesses(),
        clock=installation_clock(settings),
        worker_name=worker_identity(name),
        host=socket.gethostname(),
        data_dir=settings.reports_dir,
        optuna_url=store.sqlalchemy_url,
        quality=OpenAiQualityProbe(),
        engine_lag=emulator_lag,
        on_progress=_until(should_stop, on_progress),
    )


def _until(should_stop: Callable[[], bool], show: Callable[[StudyProgress], None]) -> Callable[[StudyProgress], None]:
    """Return `show` that lets go of the study when asked to stop: progress is told several times a second."""
    from controlplane.services.studies.trial_engine import Interrupted

    def told(progress: StudyProgress) -> None:
        if should_stop():
            raise Interrupted
        show(progress)

    return told


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


def _own_secrets(settings: Settings) -> dict[str, str]:
    found = {"dashboard": _secret(settings.dashboard_key_file), "cli": _secret(settings.operator_key_file)}
    return {actor: secret for actor, secret in found.items() if secret}


def _secret(path: Path) -> str | None:
    return path.read_text().strip() if path.exists() else None
