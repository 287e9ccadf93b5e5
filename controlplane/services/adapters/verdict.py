"""Judges an adapter's canary on live records, as a revision is judged; beside the controller.

Both versions run on the same replicas at the same time, so what differs between their requests is the adapter's doing.
No load is made up: what an adapter weighs was there before its canary. Counts are kept here only; whoever takes over
counts the same records anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum

from pydantic import Field

from controlplane.domain.adapters import ServedAdapter
from controlplane.domain.base import ServiceName, Value
from controlplane.domain.errors import FleetuneError, StaleVersion
from controlplane.domain.rollouts.analysis import Analysis, Verdict
from controlplane.domain.rollouts.arm import Arm
from controlplane.domain.rollouts.comparing import Control, Evidence
from controlplane.domain.rollouts.guards import guard
from controlplane.domain.rollouts.judge import judge
from controlplane.domain.rollouts.rollout_options import CeilingPolicy, RolloutOptions
from controlplane.domain.rollouts.warm_up import WarmUp
from controlplane.domain.service import ServiceSpec
from controlplane.domain.serving import Service
from controlplane.ports import Clock
from controlplane.ports.gateways import Position, RecordFeed
from controlplane.ports.store import Store
from controlplane.services.adapters.manage import save_adapter
from controlplane.services.kept import read_kept


class Ending(StrEnum):
    """What becomes of a canary. The word of its event."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"


class Judgements(Value):
    """The latest look at each adapter's canary of one service, by the adapter's name."""

    of: Mapping[str, Analysis] = Field(default_factory=dict)


class AdapterJudge:
    """One look at all canaries that are to be judged."""

    def __init__(self, *, store: Store, records: RecordFeed, clock: Clock) -> None:
        self._store = store
        self._records = records
        self._clock = clock
        self._watched: dict[tuple[ServiceName, str], _Watched] = {}

    def run(self) -> Sequence[str]:
        """Judge each; promote what is certainly no worse, take back what is worse. Returns what could not be done."""
        problems, services = [], [service for service, _ in self._store.list_services()]
        self._forget_others(services)
        for service in services:
            try:
                self._judge(service)
            except StaleVersion:  # a person was faster: the next look sees what they did
                continue
            except FleetuneError as error:
                problems.append(f"{service.name}: {error}")
        return problems

    def _forget_others(self, services: Sequence[Service]) -> None:
        """Let go of what was counted for canaries that are over: every arm has the newest 20,000 of a gateway."""
        judged = {(each.name, adapter.name) for each in services for adapter in each.adapters if adapter.is_judged}
        self._watched = {key: seen for key, seen in self._watched.items() if key in judged}

    def _judge(self, service: Service) -> None:
        canaries = [each for each in service.adapters if each.is_judged]
        found = {each.name: self._look(service, each) for each in canaries}
        self._keep(service.name, Judgements(of=found))
        for adapter in canaries:
            began = self._watched[service.name, adapter.name].since
            ending = ending_of(found[adapter.name], service.spec.rollout, (self._clock() - began).total_seconds())
            if ending is not None:
                self._end(service.name, adapter, ending, found[adapter.name].reason)

    def _look(self, service: Service, adapter: ServedAdapter) -> Analysis:
        key, now = (service.name, adapter.name), self._clock()
        if key not in self._watched or self._watched[key].canary_name != adapter.loaded_as(adapter.canary or 0):
            self._watched[key] = _Watched(service.spec, adapter)
        seen = self._watched[key]
        seen.catch_up(self._records, service.name)
        return seen.analysis(service.spec, now)

    def _end(self, name: ServiceName, judged: ServedAdapter, ending: Ending, reason: str) -> None:
        """Save what became of the very canary that was judged."""
        saved, now = self._store.get_service(name), self._clock()
        adapter = saved.value.adapter(judged.name)
        if adapter is None or (adapter.canary, adapter.stable) != (judged.canary, judged.stable):
            return
        after = adapter.promoted() if ending is Ending.PROMOTED else adapter.taken_back()
        told = f"version {judged.canary}: {reason}"
        save_adapter(self._store, saved, after, ending.value, told, actor="controller", now=now)

    def _keep(self, service: ServiceName, found: Judgements) -> None:
        saved = self._store.read_setting(_setting(service))
        value = found.model_dump_json()
        if (saved is not None or found.of) and (saved is None or saved.value != value):
            self._store.write_setting(_setting(service), value, 0 if saved is None else saved.version)


class _Watched:
    """The requests of both versions since the canary came."""

    def __init__(self, spec: ServiceSpec, adapter: ServedAdapter) -> None:
        assert adapter.canary is not None, "only a canary is judged"
        assert adapter.stable is not None, "only what can be compared is judged"
        lapse, warm_up = spec.engine.time_lapse, WarmUp(spec.rollout.warm_up_requests)
        self.canary_name, self._stable_name = adapter.loaded_as(adapter.canary), adapter.loaded_as(adapter.stable)
        self.since = next(each.added_at for each in adapter.versions if each.number == adapter.canary)
        self._canary = Arm(spec.slos.latency, time_lapse=lapse, warm_up=warm_up)
        self._stable = Arm(spec.slos.latency, time_lapse=lapse)
        self._position: Position = {}

    def catch_up(self, records: RecordFeed, service: ServiceName) -> None:
        """Count what came since the last time. Raises Unavailable."""
        arms = {self.canary_name: self._canary, self._stable_name: self._stable}
        for news in records.follow(service, since=self.since, position=self._position):
            for record in news.records:
                arm = arms.get(record.adapter or "")
                if arm is not None and not record.replayed:
                    arm.add(record)
            self._position = news.position

    def analysis(self, spec: ServiceSpec, now: datetime) -> Analysis:
        options = _alone(spec.rollout)
        evidence = Evidence(canary=self._canary.counts(), stable=self._stable.counts(), control=Control.CONCURRENT)
        hit = guard((self._canary,), evidence, options, now, beside=self._stable)
        if hit is not None:
            return hit
        return judge(evidence, spec.slos, options, options.steps[0], started_at=self.since, now=now)


def ending_of(analysis: Analysis, options: RolloutOptions, elapsed_s: float) -> Ending | None:
    """Return what becomes of a canary: decided by its verdict, and by the declared policy when its time is over."""
    if analysis.verdict is Verdict.PASS:
        return Ending.PROMOTED
    if analysis.verdict is Verdict.FAIL:
        return Ending.ROLLED_BACK
    step = options.first_with_users
    if elapsed_s < step.max_s:
        return None
    match step.on_ceiling:
        case CeilingPolicy.ABORT:
            return Ending.ROLLED_BACK
        case CeilingPolicy.PROCEED if analysis.canary.requests >= step.min_samples:
            return Ending.PROMOTED
        case CeilingPolicy.PROCEED | CeilingPolicy.PAUSE:  # it keeps its share until a person decides, or it is certain
            return None


def read_judgements(store: Store, service: ServiceName) -> Mapping[str, Analysis]:
    """Return the latest look at each canary; nothing where another version wrote it."""
    return read_kept(store, _setting(service), Judgements.model_validate_json, Judgements()).value.of


def _alone(options: RolloutOptions) -> RolloutOptions:
    """Return the options with the first step of users alone: a share has one, so its error rates are not divided."""
    return options.evolve(steps=(options.first_with_users.evolve(weight_percent=100),))


def _setting(service: ServiceName) -> str:
    return f"adapter-judgements/{service}"
