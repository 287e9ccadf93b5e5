"""Look for alerts where no Prometheus does, and take them in as those of an Alertmanager are: told, then acted on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta

from pydantic import TypeAdapter

from controlplane.domain.base import ServiceName
from controlplane.domain.engines.engine_metrics import EngineNumber, EngineNumbers
from controlplane.domain.engines.fleet import Engine, EngineState
from controlplane.domain.engines.gpu import EngineGpu
from controlplane.domain.errors import Unavailable
from controlplane.domain.operations.alerts import Alert, one_line
from controlplane.domain.operations.cost import engines_usd_per_hour
from controlplane.domain.operations.known_alerts import (
    CERTIFICATE_ENDS,
    GATEWAY_DOWN,
    QUEUE_S,
    QUEUE_STEP_S,
    STORE_FULL,
)
from controlplane.domain.operations.minutes import KEPT_S, Minutes
from controlplane.domain.operations.space import Space
from controlplane.domain.operations.watching import (
    Facts,
    Pending,
    Ripe,
    Stuck,
    Trouble,
    certificate_troubles,
    ended,
    ripened,
    store_troubles,
    troubles,
    unknown,
)
from controlplane.domain.rollouts.rollout import Rollout, RolloutState
from controlplane.domain.serving import Service
from controlplane.ports import Clock
from controlplane.ports.fleet import FleetView
from controlplane.ports.gateways import CertificateView, Position, RecordFeed, TrafficRouter
from controlplane.ports.metrics import MetricsSource
from controlplane.ports.store import Store, Versioned
from controlplane.services.fleet.world import service_of
from controlplane.services.kept import read_kept
from controlplane.services.operations.alerts import take_alerts
from controlplane.services.operations.failures import failed_lately
from controlplane.services.operations.load_news import load_news
from controlplane.services.rollouts.manage import active_rollout

ACTOR = "watch"
GATEWAYS = "-gateways"
"""Stands for what is of no service."""
_PENDING = TypeAdapter(dict[str, Pending])
_Kept = Versioned[Mapping[str, Pending]]


class AlertWatcher:
    """One per controller; `run` every quarter of a minute. What lasts is kept in the store, the rest is found again."""

    def __init__(
        self,
        *,
        store: Store,
        fleet: FleetView,
        records: RecordFeed,
        metrics: MetricsSource,
        router: TrafficRouter,
        clock: Clock,
        certificates: CertificateView | None = None,
        space: Callable[[], Space | None] = lambda: None,
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._records = records
        self._metrics = metrics
        self._router = router
        self._clock = clock
        self._certificates = certificates
        self._space = space
        self._minutes: dict[ServiceName, tuple[Minutes, datetime, Position]] = {}

    def run(self) -> bool:
        """Look once at every service that wants it. Raises Unavailable, StaleVersion: the next look tries again."""
        now = self._clock()
        services = [saved.value for saved in self._store.list_services()]
        watched = [each for each in services if each.spec.alerts.built_in]
        engines = self._fleet.list() if watched else ()
        for service in services:
            if service.spec.alerts.built_in:
                facts = self._facts(service, engines, now)
                self._take(service.name, troubles(facts, now), now, unknown=unknown(facts))
            else:
                self._take(service.name, (), now)  # what was told before it was switched off is not looked for now
        if watched:
            self._look_at_all(now)
        return False

    def _look_at_all(self, now: datetime) -> None:
        """Look at what is of no service. Who is silent may have certificates that end, and a disk may not be known."""
        gateways, space = self._gateways(), self._space()
        found = [*gateways, *self._installation(space, now)]
        silent = [CERTIFICATE_ENDS.name] if gateways else []
        self._take(None, found, now, unknown=[*silent, *([STORE_FULL.name] if space is None else [])])

    def _facts(self, service: Service, engines: Sequence[Engine], now: datetime) -> Facts:
        mine = [each for each in engines if service_of(each) == service.name]
        queue, read, gpus = self._told(service, now)
        active = active_rollout(self._store, service.name)
        return Facts(
            spec=service.spec,
            minutes=self._counted(service, now),
            waiting=queue,
            running=read.running,
            kv_usage_percent=read.kv_usage_percent,
            preemptions_per_s=read.preemptions_per_s,
            gpu_percent=read.gpu_percent,
            gpus=gpus,
            hanging=[e.spec.engine_id for e in mine if e.state is EngineState.READY and not e.answers],
            failed=failed_lately(self._store, service.name, now),
            halted=_halted(active),
            stuck=_stuck(active, now),
            usd_per_hour=engines_usd_per_hour(service.spec, mine),
            load=load_news(self._store, service.name, now),
            ready=sum(each.state is EngineState.READY and each.answers for each in mine),
        )

    def _counted(self, service: Service, now: datetime) -> Minutes:
        """Return the last six hours of a service; of a description that changed they are counted anew."""
        minutes, since, position = self._minutes.get(service.name, (None, now, {}))
        if minutes is None or minutes.spec != service.spec:
            minutes, since, position = Minutes(service.spec), now - timedelta(seconds=KEPT_S), {}
        for news in self._records.follow(service.name, since=since, position=position):
            minutes.add(news.records)
            self._minutes[service.name] = (minutes, since, news.position)
        minutes.forget(now)
        return minutes

    def _told(
        self, service: Service, now: datetime
    ) -> tuple[Sequence[float | None], EngineNumbers, Sequence[EngineGpu]]:
        """Return what waited for five minutes, what engines say now, and their GPUs; nothing where unknown."""
        model, since = service.spec.model.name, now - timedelta(seconds=QUEUE_S)
        try:
            read = self._metrics.read(model)
            waiting = self._metrics.series(model, EngineNumber.WAITING, since=since, until=now, step_s=QUEUE_STEP_S)
            gpus = self._metrics.gpus(model)
        except Unavailable:
            return (), EngineNumbers(model=model, at=now), ()
        return [each.value for each in waiting], read, gpus

    def _gateways(self) -> Sequence[Trouble]:
        try:
            silent = sum(table is None for table in self._router.actual())
        except Unavailable as error:
            return [Trouble.of(GATEWAY_DOWN, str(error))]
        if not silent:
            return ()
        return [Trouble.of(GATEWAY_DOWN, f"{silent} gateways do not answer")]

    def _installation(self, space: Space | None, now: datetime) -> Sequence[Trouble]:
        """What is nobody's service: room for what is kept, and certificates of the gateways that answer."""
        view = self._certificates
        ends = {} if view is None else view.certificates()
        return [*([] if space is None else store_troubles(space)), *certificate_troubles(ends, now)]

    def _take(
        self, name: ServiceName | None, found: Sequence[Trouble], now: datetime, unknown: Collection[str] = ()
    ) -> None:
        """Remember since when it lasts, tell it, remember that: after a crash in between its key is known."""
        setting = _setting(name)
        before = self._read(setting)
        after, ripe = ripened(found, before.value, now, unknown)
        fresh, gone = {each.trouble.key for each in ripe}, ended(before.value, after)
        untold = {key: one.evolve(told=False) if key in fresh else one for key, one in after.items()}
        saved = self._saved(setting, before, {**gone, **untold})
        alerts = [*(_alert(each, name) for each in ripe), *(_over(key, one, name) for key, one in gone.items())]
        take_alerts(self._store, alerts, actor=ACTOR, now=now)
        self._saved(setting, saved, after)

    def _saved(self, setting: str, before: _Kept, after: Mapping[str, Pending]) -> _Kept:
        if after == before.value:
            return before
        text = _PENDING.dump_json(dict(after)).decode()
        return Versioned(after, self._store.write_setting(setting, text, before.version))

    def _read(self, setting: str) -> _Kept:
        """What another version wrote is as nothing: what lasts is told again."""
        return read_kept(self._store, setting, _pending, {})


def gateways_silent_since(store: Store) -> datetime | None:
    """Return since when a gateway does not answer; None: all do, or nobody looks. Raises Unavailable."""
    nothing: Mapping[str, Pending] = {}
    kept = read_kept(store, _setting(None), _pending, nothing).value
    return min((each.since for key, each in kept.items() if key.startswith(GATEWAY_DOWN.name)), default=None)


def _setting(name: ServiceName | None) -> str:
    return f"watching/{name or GATEWAYS}"


def _pending(text: str) -> Mapping[str, Pending]:
    return _PENDING.validate_json(text)


def _halted(active: Versioned[Rollout] | None) -> str | None:
    halted = active is not None and active.value.state is RolloutState.HALTED
    return active.value.rollout_id if active is not None and halted else None


def _stuck(active: Versioned[Rollout] | None, now: datetime) -> Stuck | None:
    stays_s = None if active is None else active.value.stays_s(now)
    if active is None or stays_s is None or stays_s <= active.value.patience_s:
        return None
    rollout = active.value
    return Stuck(rollout.rollout_id, rollout.state.value, stays_s, rollout.reason)


def _alert(ripe: Ripe, name: ServiceName | None) -> Alert:
    return Alert(
        name=ripe.trouble.alert,
        key=_key(ripe.trouble.key, ripe.since),
        service=name,
        firing=True,
        severity=ripe.trouble.severity,
        summary=one_line(ripe.trouble.summary),
    )


def _over(key: str, pending: Pending, name: ServiceName | None) -> Alert:
    return Alert(name=key.partition("/")[0], key=_key(key, pending.since), service=name, firing=False)


def _key(trouble: str, since: datetime) -> str:
    return f"{trouble}@{since.isoformat()}"[-200:]
