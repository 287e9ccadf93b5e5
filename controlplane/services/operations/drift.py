"""Watch live requests against what a recommendation rests on, and do what the service declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from controlplane.domain.base import ServiceName
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.errors import Conflict, InvalidInput, NotFound
from controlplane.domain.event import Event
from controlplane.domain.operations.drift import Drift, DriftPolicy, Signal, Watch, added, followed, is_whole, judged
from controlplane.domain.service import ServiceSpec
from controlplane.domain.serving import Service
from controlplane.domain.studies.study import STUDY_FINAL, Study
from controlplane.domain.workload import Lengths, SyntheticWorkload, Workload
from controlplane.ports.gateways import Position, RecordFeed
from controlplane.ports.store import Store, Versioned
from controlplane.services.capacities import Measured, measured_by
from controlplane.services.kept import read_kept
from controlplane.services.operations.drift_signals import SignalReader, measured_with, other_engine, with_signals

ACTOR = "drift"
LOOK_EVERY = timedelta(seconds=20)
_TRACE_CV = 1.0  # of a length of a trace that did not drift: Azure's conversations have about that


class CreateStudy(Protocol):
    def __call__(
        self,
        store: Store,
        *,
        service: ServiceName,
        actor: str,
        now: datetime,
        apply_when_done: bool,
        workload: Workload | None = None,
    ) -> Study: ...


class DriftWatcher:
    """One per controller. What a batch has so far lives here; what was summed up lives in the store."""

    def __init__(self, *, store: Store, records: RecordFeed, create_study: CreateStudy) -> None:
        self._store = store
        self._records = records
        self._create_study = create_study
        self._positions: dict[ServiceName, tuple[datetime, Position]] = {}
        self._looked: dict[ServiceName, datetime] = {}
        self._filling: dict[ServiceName, Watch] = {}
        self._readers: dict[ServiceName, SignalReader] = {}

    def watch(self, now: datetime) -> None:
        """Look at every service that wants it. Raises Unavailable, StaleVersion."""
        for saved in self._store.list_services():
            service = saved.value
            if service.spec.drift.policy is DriftPolicy.OFF or service.stable is None or service.rollout is not None:
                self._filling.pop(service.name, None)
                self._positions.pop(service.name, None)
                self._readers.pop(service.name, None)
            elif self._is_due(service.name, now):
                self._look(service, now)

    def _is_due(self, name: ServiceName, now: datetime) -> bool:
        last = self._looked.get(name)
        return last is None or not timedelta(0) <= now - last < LOOK_EVERY

    def _look(self, service: Service, now: datetime) -> None:
        seconds = (now - self._looked.get(service.name, now)).total_seconds()
        self._looked[service.name] = now
        records = self._came(service, now)
        saved = read_watch(self._store, service.name)
        found = self._measured(service)
        watch = self._begun(service, saved.value, now)
        watch = added(watch, self._values(service, records, found, seconds))
        watch = followed(watch, self._readers[service.name].lengths(records), measured_with(found), seconds)
        batch_s = (now - (watch.began_at or now)).total_seconds()
        if not is_whole(watch, batch_s) and not watch.is_sudden:
            self._filling[service.name] = watch
            return
        self._filling.pop(service.name, None)
        self._judge(service, watch, found, saved.version, batch_s=batch_s, now=now)

    def _came(self, service: Service, now: datetime) -> Sequence[GatewayRecord]:
        """Return what stable answered since the last look. What cannot be read on the way is left for the next one."""
        since, position = self._positions.setdefault(service.name, (now, {}))
        mine = list[GatewayRecord]()
        for news in self._records.follow(service.spec.service, since=since, position=position):
            came = (r for r in news.records if r.revision == service.stable and r.ok)
            mine += [r for r in came if not r.replayed and not r.retried]
            position = news.position
        self._positions[service.name] = (since, position)
        return mine

    def _values(
        self, service: Service, mine: Sequence[GatewayRecord], found: Measured | None, seconds: float
    ) -> Mapping[Signal, Sequence[float]]:
        reader = self._readers.setdefault(service.name, SignalReader())
        sustained_rps = None if found is None else found.capacity.rate_rps.value
        return reader.read(mine, service.spec, sustained_rps=sustained_rps, seconds=seconds)

    def _begun(self, service: Service, saved: Watch, now: datetime) -> Watch:
        """Return the batch that fills; it begins anew with the controller and the revision."""
        watch = self._filling.get(service.name)
        if watch is None or watch.revision != service.stable:
            kept = saved if saved.revision == service.stable else saved.anew(found_at=saved.found_at)
            watch = kept.evolve(revision=service.stable, began_at=now)
        return watch

    def _judge(
        self, service: Service, watch: Watch, model: Measured | None, version: int, *, batch_s: float, now: datetime
    ) -> None:
        after, found = judged(watch, measured_with(model), batch_s)
        engine = other_engine(model, self._store.get_revision(watch.revision).engine) if watch.revision else None
        said = [*(str(each) for each in found), *([] if engine is None else [engine])]
        if after.found_at is not None and after.found_at > now:  # noted before a clock was set back: it cools from now
            after = after.evolve(found_at=now)
        cool = after.found_at is not None and now - after.found_at < timedelta(seconds=service.spec.drift.cool_down_s)
        if said:  # acted on or not, the sums begin anew: what they know is said
            after = after.anew(revision=after.revision, found_at=after.found_at if cool else now)
        text = after.evolve(began_at=None).model_dump_json()
        self._store.write_setting(_setting(service.name), text, version)
        if said and not cool:
            self._store.add_event(_event(service.name, "drift.found", "; ".join(said), now))
            self._act(service, found, model, now)

    def _measured(self, service: Service) -> Measured | None:
        """Return what the capacity of stable was measured with; None where no study measured it."""
        assert service.stable is not None, "only what serves is watched"
        return measured_by(self._store, self._store.get_revision(service.stable))

    def _act(self, service: Service, found: Sequence[Drift], model: Measured | None, now: datetime) -> None:
        match service.spec.drift.policy:
            case DriftPolicy.OFF | DriftPolicy.TELL:
                return
            case DriftPolicy.TUNE:
                self._tune(service, found, model, now, apply=False)
            case DriftPolicy.TUNE_AND_APPLY:
                self._tune(service, found, model, now, apply=True)

    def _tune(
        self, service: Service, found: Sequence[Drift], model: Measured | None, now: datetime, *, apply: bool
    ) -> None:
        """Create a study of the traffic as it is now, unless one of the service is under way."""
        running = [s for s, _ in self._store.list_studies(service.name) if s.state not in STUDY_FINAL]
        try:
            if running:
                raise Conflict(f"study {running[0].study_id} is {running[0].state}")
            study = self._create_study(
                self._store,
                service=service.name,
                actor=ACTOR,
                now=now,
                apply_when_done=apply,
                workload=workload_now(service.spec, found, measured_with(model)),
            )
            action, reason = "drift.study", f"study {study.study_id} tunes for the traffic as it is now"
        except (Conflict, InvalidInput, NotFound) as error:
            action, reason = "drift.no_study", str(error)
        self._store.add_event(_event(service.name, action, reason, now))


def workload_now(spec: ServiceSpec, found: Sequence[Drift], was: Mapping[Signal, float]) -> Workload:
    """Return the service's workload with what drifted: lengths are lognormal, of live mean and spread.

    Of a trace the other length is lognormal too, of the measured mean. Raises InvalidInput where nobody measured it.
    Where no load drifted, only what came of it, the workload stays.
    """
    lengths = [each for each in found if each.signal.is_length]
    if not any(each.signal is not Signal.MISSES for each in found):
        return spec.workload
    drifted = {each.signal: Lengths(mean=each.now, cv=each.cv, max=int(8 * each.now) + 1) for each in lengths}
    kept = _lengths(spec.workload, was)
    return SyntheticWorkload(
        prompt_tokens=drifted.get(Signal.PROMPT) or kept[Signal.PROMPT],
        output_tokens=drifted.get(Signal.OUTPUT) or kept[Signal.OUTPUT],
        **with_signals(spec.workload, found),
        rate_rps=spec.workload.rate_rps,
        seed=spec.workload.seed,
    )


def _lengths(workload: Workload, was: Mapping[Signal, float]) -> Mapping[Signal, Lengths]:
    if isinstance(workload, SyntheticWorkload):
        return {Signal.PROMPT: workload.prompt_tokens, Signal.OUTPUT: workload.output_tokens}
    most = {Signal.PROMPT: workload.max_prompt_tokens, Signal.OUTPUT: workload.max_output_tokens}
    missing = [each.value for each in most if each not in was]
    if missing:
        raise InvalidInput("the traffic as it is now cannot be tuned for", why=f"nobody measured {missing[0]}")
    return {each: Lengths(mean=was[each], cv=_TRACE_CV, max=most[each]) for each in most}


def read_watch(store: Store, name: ServiceName) -> Versioned[Watch]:
    """Return what is remembered of a service; nothing at version 0, or when this version cannot read it."""
    return read_kept(store, _setting(name), Watch.model_validate_json, Watch())


def _setting(name: ServiceName) -> str:
    return f"drift/{name}"


def _event(name: ServiceName, action: str, reason: str, now: datetime) -> Event:
    return Event(at=now, actor=ACTOR, action=action, subject=f"service/{name}", service=name, reason=reason)
