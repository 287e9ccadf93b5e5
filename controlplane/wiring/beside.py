"""The passes that run beside the controller's, in its process: metrics, alerts, answers, adapters, catalogue, load."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from controlplane.adapters.metrics_scrape.own import OwnScraper, OwnStore, Pages
from controlplane.adapters.metrics_scrape.samples import SampleStore
from controlplane.adapters.metrics_scrape.scrape import Scraper
from controlplane.adapters.metrics_scrape.source import ScrapedMetrics
from controlplane.domain.base import ServiceName
from controlplane.domain.errors import InvalidInput, Unavailable
from controlplane.domain.operations.own_metrics import CONTROL
from controlplane.host.disk import space_at
from controlplane.ports.catalogue import ModelCatalogue
from controlplane.ports.gateways import RecordFeed
from controlplane.ports.store import Store
from controlplane.services.rollouts.senders import Send, Senders
from controlplane.settings import Settings
from controlplane.wiring.control import gateway_traffic
from controlplane.wiring.gpus import gpus_of_host
from controlplane.wiring.machine import installation_clock, open_store
from controlplane.wiring.shared import Shared
from controlplane.worker import Bell, telling

if TYPE_CHECKING:
    from controlplane.adapters.catalogue_mlflow import MlflowCatalogue
    from controlplane.services.rollouts.match_load import LoadMatcher

log = logging.getLogger(__name__)


def scraper_pass(settings: Settings, shared: Shared) -> Callable[[], bool]:
    """Return one round over the pages of all serving engines, of the gateways and our own; it runs beside."""
    scraper = Scraper(
        fleet=shared.fleet(),
        samples=SampleStore(settings.metrics_file),
        clock=installation_clock(settings),
        gpus=gpus_of_host(settings),
    )
    own = OwnScraper(
        pages=_own_pages(settings, shared), store=OwnStore(settings.metrics_file), clock=installation_clock(settings)
    )
    return lambda: own.run() or scraper.run()


def _own_pages(settings: Settings, shared: Shared) -> Pages:
    """Return what reads the pages of the gateways and of the control plane; who does not answer is left out."""
    from controlplane.api.numbers import Sources, control_page

    gateways = gateway_traffic(settings, shared)
    clock, space = installation_clock(settings), partial(space_at, settings.data_dir)
    sources = Sources(open_store(settings), shared.fleet(), clock, space)

    def pages() -> Mapping[str, str]:
        found = dict(gateways.metrics_pages())
        with suppress(Unavailable):
            found[CONTROL] = control_page(sources).decode()
        return found

    return pages


def watch_pass(
    settings: Settings, shared: Shared, records: RecordFeed, *, leader: int | None = None
) -> Callable[[], bool]:
    """Return one look for alerts where no Prometheus does; the controller's process runs it beside."""
    from controlplane.services.operations.watch import AlertWatcher

    clock = installation_clock(settings)
    gateways = gateway_traffic(settings, shared)
    watcher = AlertWatcher(
        store=open_store(settings, leader=leader),
        fleet=shared.fleet(),
        records=records,
        metrics=ScrapedMetrics(SampleStore(settings.metrics_file), clock=clock),
        router=gateways,
        clock=clock,
        certificates=gateways,
        space=lambda: space_at(settings.data_dir),
    )
    return watcher.run


def notify_pass(settings: Settings, *, leader: int | None = None) -> Callable[[], bool]:
    """Return one round of telling people; the controller's process runs it beside."""
    from controlplane.adapters.notifier import PlainNotifier
    from controlplane.services.operations.notifying import NotifyRunner

    store = open_store(settings, leader=leader)
    return NotifyRunner(store=store, notifier=PlainNotifier(), clock=installation_clock(settings)).run


def answers_pass(settings: Settings, shared: Shared, *, leader: int | None = None) -> Callable[[], bool]:
    """Return one pass that compares a canary's answers with stable's; the controller's process runs it beside."""
    from controlplane.adapters.quality_openai import OpenAiQualityProbe
    from controlplane.services.adapters.answers import AdapterAnswers
    from controlplane.services.rollouts.answers import AnswerComparer

    store, fleet, probe = open_store(settings, leader=leader), shared.fleet(), OpenAiQualityProbe()
    comparer = AnswerComparer(store=store, fleet=fleet, probe=probe)
    adapters = AdapterAnswers(store=store, fleet=fleet, probe=probe, clock=installation_clock(settings))
    return lambda: comparer.run_next() or adapters.run_next()


def adapter_pass(
    settings: Settings, shared: Shared, records: RecordFeed, *, leader: int | None = None
) -> Callable[[], bool]:
    """Return one pass that gives every replica its adapters and judges canaries; the controller's process runs it."""
    from controlplane.adapters.engine_adapters import EngineAdapters
    from controlplane.services.adapters.keep import AdapterKeeper
    from controlplane.services.adapters.shares import AdapterShares
    from controlplane.services.adapters.verdict import AdapterJudge

    store = open_store(settings, leader=leader)
    keeper = AdapterKeeper(store=store, fleet=shared.fleet(), loader=EngineAdapters(), monotonic=time.monotonic)
    clock = installation_clock(settings)
    judge = AdapterJudge(store=store, records=records, clock=clock)
    shares = AdapterShares(store=store, records=records, clock=clock, monotonic=time.monotonic)

    return telling(lambda: (*keeper.run(), *judge.run(), *shares.run()), log)


def judging_pass(settings: Settings, shared: Shared, *, leader: int | None = None) -> Callable[[], bool]:
    """Return one pass that has sampled answers of A/B tests judged; the controller's process runs it beside."""
    from controlplane.adapters.gateway.judged_files import JudgedFiles
    from controlplane.adapters.judge_command import CommandJudge
    from controlplane.services.ab_tests.judging import AnswerJudging

    clock = installation_clock(settings)
    judging = AnswerJudging(
        store=open_store(settings, leader=leader),
        samples=gateway_traffic(settings, shared),
        judge=CommandJudge(),
        log=JudgedFiles(settings.data_dir, clock=clock),
        clock=clock,
    )

    return telling(judging.run, log)


def catalogue_pass(settings: Settings, *, leader: int | None = None) -> Callable[[], bool]:
    """Return one look at the models that services follow in MLflow; the controller's process runs it beside.

    MLflow's client is loaded with the first service that follows one: an installation without does without its memory.
    """
    from controlplane.services.catalogue.follow import CatalogueFollower

    follower = CatalogueFollower(
        store=open_store(settings, leader=leader),
        open_catalogue=lambda: open_catalogue(settings),
        clock=installation_clock(settings),
        monotonic=time.monotonic,
    )

    return telling(follower.run, log)


def open_catalogue(settings: Settings) -> ModelCatalogue:
    """Return the MLflow that the installation names. Raises as `open_mlflow`."""
    return open_mlflow(settings.mlflow_url)


def open_mlflow(url: str | None) -> MlflowCatalogue:
    """Return the MLflow at a URL. Raises InvalidInput when there is none, and without the extra."""
    from controlplane.adapters.catalogue_mlflow import MlflowCatalogue

    if url is None:
        raise InvalidInput("MLflow cannot be asked", why="none is named", allowed="fleetune up --mlflow-url URL")
    return MlflowCatalogue(url)


def warm_pass(settings: Settings, shared: Shared, *, leader: int | None = None) -> Callable[[], bool]:
    """Return one pass that puts engines to sleep and wakes them; the controller's process runs it beside."""
    from controlplane.adapters.engine_sleep import HttpSleeper
    from controlplane.services.fleet.warm import WarmKeeper

    keeper = WarmKeeper(store=open_store(settings, leader=leader), fleet=shared.fleet(), sleeper=HttpSleeper())

    def one() -> bool:
        for problem in keeper.run():
            log.warning("%s", problem)
        return False

    return one


def turns_pass(settings: Settings, shared: Shared, *, leader: int | None = None) -> Callable[[], bool]:
    """Return one pass over GPUs that services take turns on; the controller's process runs it beside."""
    from controlplane.adapters.engine_sleep import HttpSleeper
    from controlplane.services.fleet.turns import TurnKeeper

    keeper = TurnKeeper(
        store=open_store(settings, leader=leader),
        fleet=shared.fleet(),
        flights=gateway_traffic(settings, shared),
        sleeper=HttpSleeper(),
        clock=installation_clock(settings),
    )

    return telling(keeper.run, log)


def held_pass(settings: Settings, shared: Shared, bell: Bell) -> Callable[[], bool]:
    """Return one wait for a request that is held at a gateway, which rings for the controller; it runs beside."""
    from controlplane.services.fleet.waking import HeldWatcher

    gateways = gateway_traffic(settings, shared)
    return HeldWatcher(store=open_store(settings), held=gateways, ring=bell.ring).run


def reclaims_pass(settings: Settings, shared: Shared, *, leader: int | None = None) -> Callable[[], bool]:
    """Return one look at notices of reclaim; the controller's process runs it beside."""
    from controlplane.services.fleet.reclaims import ReclaimKeeper

    keeper = ReclaimKeeper(
        store=open_store(settings, leader=leader),
        fleet=shared.fleet(),
        notices=shared.notices(),
        clock=installation_clock(settings),
    )
    return telling(keeper.run, log)


def load_matcher_pass(
    settings: Settings, shared: Shared, records: RecordFeed, stop: threading.Event, *, leader: int | None = None
) -> Callable[[], bool]:
    """Return one pass that makes up the load of canaries under judgement; the controller's process runs it beside.

    A load generator is built with a service's rollout: an installation without one does without its memory.
    """
    store = open_store(settings, leader=leader)

    def rolling_out() -> Sequence[ServiceName]:
        return [service.name for service, _ in store.list_services() if service.rollout is not None]

    def make(service: ServiceName) -> Send:
        return _load_matcher(service, settings, shared, records, open_store(settings, leader=leader), stop).run_next

    return Senders(rolling_out, make).run_next


def _load_matcher(
    service: ServiceName, settings: Settings, shared: Shared, records: RecordFeed, store: Store, stop: threading.Event
) -> LoadMatcher:
    from controlplane.adapters.gateway.opener import GatewayProcesses
    from controlplane.adapters.gateway.recent_records import RecentSpool
    from controlplane.adapters.gateway.replay_records import ReplayRecords
    from controlplane.adapters.loadtester_locust import LocustLoadTester
    from controlplane.services.rollouts.match_load import LoadMatcher
    from controlplane.services.rollouts.recording import Recorder

    return LoadMatcher(
        service=service,
        store=store,
        fleet=shared.fleet(),
        load_tester=LocustLoadTester(),
        gateways=GatewayProcesses(),
        feed=records,
        keep=ReplayRecords(settings.data_dir, clock=installation_clock(settings)).keep,
        clock=installation_clock(settings),
        out_dir=settings.reports_dir,
        should_stop=stop.is_set,
        recorder=Recorder(RecentSpool(settings.data_dir), settings.reports_dir / "recordings"),
    )
