"""A whole installation without processes: the controller on fakes, with live traffic played by the test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from controlplane.domain.base import RevisionId, StudyId
from controlplane.domain.door.routing import GatewayRecord, RoutingTable
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.rollouts.rollout import Rollout, RolloutState
from controlplane.domain.serving import Service
from controlplane.domain.studies.study import Study
from controlplane.domain.workload import Workload
from controlplane.ports.fleet import Fleet
from controlplane.ports.gateways import RecordFeed, TrafficRouter
from controlplane.ports.store import Store
from controlplane.services.controller.reconcile import Controller
from controlplane.services.fleet.serving import register_service
from controlplane.services.rollouts.manage import start_rollout
from tests.builders_serving import CHAT, a_spec, a_study
from tests.fakes.fleet import FakeClock, FakeFleet
from tests.fakes.judge import FakeJudged
from tests.fakes.record_source import FakeRecordSource
from tests.fakes.store import FakeStore
from tests.fakes.traffic_router import FakeTrafficRouter

BETTER = EngineConfig(flags={"max-num-seqs": 64})
PASSES_FOR_A_ROLLOUT = 60


def create_a_study(
    store: Store,
    *,
    service: str,
    actor: str,
    now: object,
    apply_when_done: bool,
    workload: Workload | None = None,
) -> Study:
    """Save a pending study without looking at its sense."""
    study = a_study(
        f"{service}-{store.next_number('study')}", created_by=actor, created_at=now, apply_when_done=apply_when_done
    )
    if workload is not None:
        study = study.evolve(spec=study.spec.evolve(workload=workload))
    store.save_study(study, 0)
    return study


@dataclass
class Site:
    """The world (store, engines, gateways, records) and a controller on it that can be replaced at any moment."""

    gpus: int = 8
    clock: FakeClock = field(default_factory=FakeClock)
    store: Store = field(default_factory=FakeStore)
    router: FakeTrafficRouter = field(default_factory=FakeTrafficRouter)
    records: FakeRecordSource = field(default_factory=FakeRecordSource)
    judged: FakeJudged = field(default_factory=FakeJudged)

    def __post_init__(self) -> None:
        self.fleet = FakeFleet(gpus=self.gpus, clock=self.clock)
        self.slow: set[RevisionId] = set()
        self._sent = 0
        self.restart()

    def restart(
        self,
        *,
        store: Store | None = None,
        fleet: Fleet | None = None,
        router: TrafficRouter | None = None,
        records: RecordFeed | None = None,
    ) -> None:
        """Give the world a new controller that remembers nothing, on the given ports or on the fakes themselves."""
        self.controller = Controller(
            store=store or self.store,
            fleet=fleet or self.fleet,
            router=router or self.router,
            records=records or self.records,
            judged=self.judged,
            flights=self.router,
            news=self.router,
            clock=self.clock,
            create_study=create_a_study,
            monotonic=self.clock.monotonic,
        )

    def serving(self, **changes: object) -> Service:
        """Register the chat service and wait until it serves."""
        service = register_service(self.store, a_spec(**changes), actor="cli", now=self.clock())
        self.passes(3)
        return service

    def roll_out(self, config: EngineConfig = BETTER, replicas: int = 2) -> Rollout:
        return start_rollout(self.store, service=CHAT, config=config, replicas=replicas, actor="cli", now=self.clock())

    def passes(self, count: int, *, requests: int = 0) -> None:
        """Let seconds go by, each with a pass and then `requests` live requests."""
        for _ in range(count):
            self.clock.go_on(1)
            self.controller.run_pass()
            self.traffic(requests)

    def passes_until(self, *states: RolloutState, requests: int = 0) -> Rollout:
        """Run passes until the rollout is in one of `states`."""
        for _ in range(PASSES_FOR_A_ROLLOUT):
            if self.rollout.state in states:
                return self.rollout
            self.passes(1, requests=requests)
        raise AssertionError(f"still {self.rollout.state}: {self.rollout.reason}")

    def traffic(self, requests: int) -> None:
        """Split requests by the gateway's table; those of a slow revision miss every latency limit."""
        for each in self.table.services[0].revisions if requests else ():
            for _ in range(max(1, requests * each.weight_percent // 100)):
                if each.backends:
                    self.records.add(self._record(each.revision, each.backends[0].engine_id))

    @property
    def table(self) -> RoutingTable:
        table = self.router.tables["gw-1"]
        assert table is not None, "the gateway has no table yet"
        return table

    @property
    def weights(self) -> dict[str, int]:
        """The chat service's split as the gateway has it."""
        return {each.revision: each.weight_percent for each in self.table.services[0].revisions}

    @property
    def service(self) -> Service:
        return self.store.get_service(CHAT).value

    @property
    def rollout(self) -> Rollout:
        return self.store.list_rollouts(CHAT)[0].value

    def engines(self, revision: str | None = None) -> Sequence[Engine]:
        """Engines that live, of one revision or of all."""
        live = [e for e in self.fleet.list() if not e.state.is_over]
        return [e for e in live if revision is None or str(e.spec.owner).endswith(f"/{revision}")]

    def trial_engine(self, study_id: StudyId) -> Engine:
        """Start an engine as a tuner worker would."""
        like = self.engines()[0].spec
        spec = like.evolve(engine_id=f"trial-{study_id}-0-1", owner=f"trial/{study_id}/0")
        return self.fleet.start(spec)

    def _record(self, revision: RevisionId, engine_id: str) -> GatewayRecord:
        ttft_ms, e2e_ms = (900, 950) if revision in self.slow else (90, 140)
        return self.record(revision, engine_id, ttft_ms=ttft_ms, e2e_ms=e2e_ms)

    def record(self, revision: RevisionId | None, engine_id: str, *, ttft_ms: float, e2e_ms: float) -> GatewayRecord:
        """Make the record of a stream that an engine answered a millisecond from now."""
        self._sent += 1
        return GatewayRecord(
            id=f"r{self._sent}",
            at=self.clock() + timedelta(milliseconds=1),
            gateway="gw-1",
            service=CHAT,
            model="llama-8b",
            revision=revision,
            engine_id=engine_id,
            path="/v1/chat/completions",
            stream=True,
            status=200,
            ttft_ms=ttft_ms,
            e2e_ms=e2e_ms,
        )
