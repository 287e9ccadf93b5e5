"""What the control plane knows, as a Prometheus page: replicas, rollouts, studies, money. Labels are bounded by names.

What cannot be read now is left out of the page, and never a zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from controlplane.domain.engines.fleet import Engine
from controlplane.domain.engines.gpu import DcgmName, EngineGpu, to_dcgm
from controlplane.domain.errors import Unavailable
from controlplane.domain.operations.cost import engines_usd_per_hour
from controlplane.domain.operations.space import Space
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.studies.study import Study, StudyState
from controlplane.ports import Clock
from controlplane.ports.fleet import FleetView
from controlplane.ports.metrics import MetricsSource
from controlplane.ports.store import Store
from controlplane.services.fleet.scaling import read_memory
from controlplane.services.fleet.serving import ServiceStatus, service_status
from controlplane.services.operations.failures import failed_lately
from controlplane.services.operations.load_news import load_news
from controlplane.services.operations.savings import read_saved

_STUDIES = 200


@dataclass(frozen=True)
class Sources:
    """What the page is read from. `metrics`: the engines' GPUs, where the page is to tell of them."""

    store: Store
    fleet_view: FleetView
    clock: Clock
    space: Callable[[], Space | None]
    metrics: MetricsSource | None = None


def control_page(sources: Sources) -> bytes:
    """Return the page as of now. Raises Unavailable when the store or the fleet cannot be asked."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Numbers(sources))
    return generate_latest(registry)


class _Numbers(Collector):
    """Read at the moment of the scrape."""

    def __init__(self, ctx: Sources) -> None:
        self._ctx = ctx

    def collect(self) -> Iterator[Metric]:
        store, fleet = self._ctx.store, self._ctx.fleet_view
        names, now = [saved.value.name for saved in store.list_services()], self._ctx.clock()
        services = [service_status(store, fleet, name, now=now) for name in names]
        yield from _replicas(services)
        yield self._failed(services, now)
        yield from _rollouts(services, now)
        yield self._held(services)
        yield from self._studies()
        yield self._saved(services)
        yield GaugeMetricFamily("fleetune_gpus_free", "GPUs that no engine holds.", fleet.free_gpus())
        yield _held_by(fleet.list())
        yield from self._load(services)
        yield from self._space()
        yield from self._gpus(services)

    def _failed(self, services: Sequence[ServiceStatus], now: datetime) -> Metric:
        text = "Engines that failed within half an hour; those that were sent away did not."
        family = GaugeMetricFamily("fleetune_engines_failed", text, labels=["service"])
        for each in services:
            family.add_metric([each.service.name], failed_lately(self._ctx.store, each.service.name, now))
        return family

    def _held(self, services: Sequence[ServiceStatus]) -> Metric:
        text = "1: the autoscaler keeps the last safe number of replicas, for want of numbers."
        family = GaugeMetricFamily("fleetune_autoscale_held", text, labels=["service"])
        for each in services:
            if each.service.spec.autoscale.enabled:
                decision = read_memory(self._ctx.store, each.service.name).value.decision
                if decision is not None:
                    family.add_metric([each.service.name], float(decision.held))
        return family

    def _saved(self, services: Sequence[ServiceStatus]) -> Metric:
        text = "What the recommendation that stable rests on saves against its baseline, since it was promoted."
        family = GaugeMetricFamily("fleetune_saved_usd_per_hour", text, labels=["service"])
        for each in services:
            if (saved := read_saved(self._ctx.store, each.service)) is not None:
                family.add_metric([each.service.name], saved.saved_usd_per_hour)
        return family

    def _studies(self) -> Iterator[Metric]:
        studies = [study for study, _ in self._ctx.store.list_studies(limit=_STUDIES)]
        counts = Counter(study.state for study in studies)
        text = f"Of the newest {_STUDIES} studies, by state."
        family = GaugeMetricFamily("fleetune_studies", text, labels=["state"])
        for state in StudyState:
            family.add_metric([state.value], counts[state])
        yield from (family, *_newest_studies(studies))

    def _load(self, services: Sequence[ServiceStatus]) -> Iterator[Metric]:
        """Of load tests that are too old to tell of today nothing is said."""
        regressed = GaugeMetricFamily(
            "fleetune_replay_regressed",
            "1: the newest valid replay of a schedule was worse than its baseline.",
            labels=["service", "schedule"],
        )
        behind = GaugeMetricFamily(
            "fleetune_generator_behind", "1: the newest load test was not kept up with.", labels=["service"]
        )
        lag = GaugeMetricFamily("fleetune_generator_lag_seconds", "P99 of its lag, wall clock.", labels=["service"])
        for name in [each.service.name for each in services]:
            news = load_news(self._ctx.store, name, self._ctx.clock())
            for schedule, worse in news.replays.items():
                regressed.add_metric([name, schedule], float(worse))
            if news.tested:
                behind.add_metric([name], float(news.behind is not None))
            if news.lag_s is not None:
                lag.add_metric([name], news.lag_s)
        yield from (regressed, behind, lag)

    def _space(self) -> Iterator[Metric]:
        space = self._ctx.space()
        if space is not None:
            yield GaugeMetricFamily("fleetune_data_free_bytes", "Free where the data folder lies.", space.free)
            yield GaugeMetricFamily("fleetune_data_size_bytes", "All there is for us there.", space.size)

    def _gpus(self, services: Sequence[ServiceStatus]) -> Iterator[Metric]:
        """What engines' GPUs told last, by a DCGM exporter's names: where Prometheus has no other source of them."""
        told = {each.service.name: self._gpus_of(each) for each in services}
        for name in DcgmName:
            family = GaugeMetricFamily(name.value, "As a DCGM exporter tells it.", labels=["service", "engine", "gpu"])
            for service, gpus in told.items():
                for each in gpus:
                    value = to_dcgm(each.reading).get(name)
                    if value is not None:
                        family.add_metric([service, each.engine, each.reading.gpu], value)
            if family.samples:
                yield family

    def _gpus_of(self, service: ServiceStatus) -> Sequence[EngineGpu]:
        try:
            return () if self._ctx.metrics is None else self._ctx.metrics.gpus(service.service.spec.model.name)
        except Unavailable:  # the day's store is broken: the rest of the page is not
            return ()


def _replicas(services: Sequence[ServiceStatus]) -> Iterator[Metric]:
    wanted = GaugeMetricFamily("fleetune_replicas_wanted", "Replicas that are to run.", labels=["service"])
    ready = GaugeMetricFamily("fleetune_replicas_ready", "Replicas that can be given traffic.", labels=["service"])
    money = GaugeMetricFamily("fleetune_usd_per_hour", "What the GPUs held now cost.", labels=["service"])
    for each in services:
        name = [each.service.name]
        wanted.add_metric(name, sum(each.desired_replicas.values()))
        ready.add_metric(name, sum(each.ready_replicas.values()))
        money.add_metric(name, engines_usd_per_hour(each.service.spec, each.engines))
    yield from (wanted, ready, money)


def _rollouts(services: Sequence[ServiceStatus], now: datetime) -> Iterator[Metric]:
    """Of the rollout under way; a service without one has none."""
    states = GaugeMetricFamily("fleetune_rollout", "1 for the state it is in.", labels=["service", "state"])
    step = GaugeMetricFamily("fleetune_rollout_step", "The step it is at; the first is 0.", labels=["service"])
    age = GaugeMetricFamily("fleetune_rollout_age_seconds", "Since it was started.", labels=["service"])
    text = "Since a step of it began or ended; of one that is halted it is not told."
    stays = GaugeMetricFamily("fleetune_rollout_stays_seconds", text, labels=["service"])
    text = "How long it may stay where it is."
    patience = GaugeMetricFamily("fleetune_rollout_patience_seconds", text, labels=["service"])
    for each in services:
        if each.rollout is not None:
            name = [each.service.name]
            for state in RolloutState:
                states.add_metric([*name, state.value], float(each.rollout.state is state))
            step.add_metric(name, each.rollout.step_index)
            age.add_metric(name, (now - each.rollout.created_at).total_seconds())
            if (stays_s := each.rollout.stays_s(now)) is not None:
                stays.add_metric(name, stays_s)
                patience.add_metric(name, each.rollout.patience_s)
    yield from (states, step, age, stays, patience)


def _newest_studies(studies: Sequence[Study]) -> Iterator[Metric]:
    """Of each service's newest study, and of the newest that came to a recommendation; `studies` begin with the newest.

    A study without one has no ratio, nor has one whose baseline took no load.
    """
    hours = GaugeMetricFamily("fleetune_study_gpu_hours", "GPU-hours of a service's newest study.", labels=["service"])
    text = "Cost of what the newest recommendation recommends over its baseline's."
    ratio = GaugeMetricFamily("fleetune_study_cost_ratio", text, labels=["service"])
    for name, newest in {each.service: each for each in reversed(studies)}.items():
        hours.add_metric([name], newest.gpu_seconds / 3600)
    told = {each.service: each.recommendation for each in reversed(studies) if each.recommendation is not None}
    for name, recommendation in told.items():
        if recommendation.evidence.compares:
            ratio.add_metric([name], recommendation.evidence.cost_ratio)
    yield from (hours, ratio)


def _held_by(engines: Sequence[Engine]) -> Metric:
    """What holds GPUs: live traffic (`rollout`), studies (`trial`) or shadows of replays (`replay`)."""
    family = GaugeMetricFamily("fleetune_gpus_held", "GPUs that engines hold, by what wants them.", labels=["by"])
    held = Counter[str]()
    for each in engines:
        held[str(each.spec.owner).partition("/")[0]] += 0 if each.state.is_over else each.spec.gpus
    for by in ("rollout", "trial", "replay"):
        family.add_metric([by], held[by])
    return family
