"""An installation in virtual time whose engines are twins: what a canary does to users on any machine."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from controlplane.domain.base import EngineId, RevisionId
from controlplane.domain.door.outcomes import Outcome, read_outcome
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.hardware import GpuPool
from controlplane.domain.launch import without_emulator_flags
from controlplane.domain.report import RequestRecord
from controlplane.domain.rollouts.pressure import Pressure
from controlplane.domain.rollouts.rollout import ROLLOUT_FINAL, Rollout
from controlplane.domain.rollouts.rollout_options import RolloutOptions
from controlplane.domain.service import EmulatorOptions, EngineOptions, ModelSpec, ServiceSpec
from controlplane.domain.slo import LatencyMetric, LatencySlo, SloSet
from controlplane.domain.workload import TraceWorkload
from controlplane.services.controller.reconcile import Controller
from controlplane.services.fleet.serving import register_service
from controlplane.services.rollouts.manage import start_rollout
from controlplane.services.rollouts.match_load import LoadMatcher
from controlplane.services.rollouts.recording import Recorder
from loadtests.send.schedule import build_schedule
from tests.builders_serving import CHAT
from tests.fakes.fleet import FakeClock, FakeFleet
from tests.fakes.gateways import FakeGateways
from tests.fakes.pressures import FakePressures
from tests.fakes.record_source import FakeRecordSource
from tests.fakes.store import FakeStore
from tests.fakes.traffic_router import FakeTrafficRouter
from tests.integration.controller.site import create_a_study
from tests.integration.rollouts.site_requests import (
    Request,
    TwinGenerator,
    arrivals,
    as_record,
    folder_of,
    in_flight,
    latencies,
)
from tuner.twin.engine import TwinEngine
from tuner.twin.setup import resolve
from tuner.twin.shapes import load_shape

TICK_S = 0.25
TICKS_PER_PASS = 2
BF16 = EngineConfig(flags={"tensor-parallel-size": 2, "max-model-len": 8192})
LONGEST_S = 7200.0
TAKEN = 0.92  # of a GPU's memory by an engine that has just started

SPEC = ServiceSpec(
    name="chat",
    model=ModelSpec(name="llama-70b", path="llama-70b"),
    engine=EngineOptions(
        kind=EngineKind.EMULATOR, flags=dict(BF16.flags), emulator=EmulatorOptions(startup_s=0, time_lapse=1)
    ),
    gpus=GpuPool(type="H200", count=8, price_usd_per_gpu_hour=3.5),
    workload=TraceWorkload(trace="azure-llm-2023/conv", seed=7),
    slos=SloSet(
        latency=(
            LatencySlo(metric=LatencyMetric.TTFT, percentile=95, limit_ms=2500),
            LatencySlo(metric=LatencyMetric.TPOT, percentile=95, limit_ms=80),
        ),
        max_error_ratio=0.01,
        target_qps=6,
    ),
    initial_replicas=2,
)


@dataclass
class LivingSite:
    """`users_rps` requests a second of the service's trace come through the gateway, in virtual time."""

    users_rps: float
    options: RolloutOptions = field(default_factory=RolloutOptions)
    seed: int = 1
    spec: ServiceSpec = SPEC
    leaks: EngineConfig | None = None  # engines with these flags run out of memory
    leaks_after: int = 0  # requests
    tells: bool = True  # engines tell of their caches, queues and memory
    hangs: EngineConfig | None = None  # engines with these flags leave one in so many requests lying
    hang_every: int = 0
    ticks_per_pass: int = TICKS_PER_PASS  # the controller looks twice a second of the wall clock

    def __post_init__(self) -> None:
        self.clock, self.store, self.router = FakeClock(), FakeStore(), FakeTrafficRouter()
        self.records, self.pressures = FakeRecordSource(), FakePressures()
        self.fleet = FakeFleet(gpus=self.spec.gpus.count, clock=self.clock)
        self.controller = Controller(
            store=self.store,
            fleet=self.fleet,
            router=self.router,
            records=self.records,
            flights=self.router,
            clock=self.clock,
            create_study=create_a_study,
            pressures=self.pressures,
        )
        self.tester = TwinGenerator(self)
        self.matcher = LoadMatcher(
            service=CHAT,
            store=self.store,
            fleet=self.fleet,
            load_tester=self.tester,
            gateways=FakeGateways(),
            feed=self.records,
            keep=lambda _, records: self.records.add(*records),
            clock=self.clock,
            out_dir=Path("/nowhere"),
            should_stop=lambda: self.over,
            recorder=Recorder(self.records, folder_of(self)),
        )
        self.started = self.clock()
        self._chance = random.Random(self.seed)
        self._twins: dict[EngineId, TwinEngine] = {}
        self._flying: dict[int, Request] = {}
        self._served: dict[EngineId, int] = {}
        self._sent = self._ticks = 0
        schedule = build_schedule(self.spec.workload, rate_rps=self.users_rps, duration_s=LONGEST_S, seed=self.seed)
        self._users = arrivals(schedule)
        self._next = next(self._users)
        self._origin = self.started
        self.answered: list[RequestRecord] = []  # replayed ones of the present run
        register_service(self.store, self.spec.evolve(rollout=self.options), actor="cli", now=self.clock())

    def roll_out(self, config: EngineConfig, *, replicas: int = 2, within_s: float = 3000) -> Rollout:
        """Let users come for a while, roll out, and return the rollout once it is over or paused."""
        self.go_on(20)
        start_rollout(self.store, service=CHAT, config=config, replicas=replicas, actor="cli", now=self.clock())
        until = self.now_s + within_s
        while not self.over and self.now_s < until:
            if not self.matcher.run_next():
                self.tick()
        return self.rollout

    def go_on(self, seconds: float) -> None:
        until = self.now_s + seconds
        while self.now_s < until:
            self.tick()

    @property
    def now_s(self) -> float:
        return (self.clock() - self.started).total_seconds()

    @property
    def rollout(self) -> Rollout:
        return self.store.list_rollouts(CHAT)[0].value

    @property
    def over(self) -> bool:
        """Say whether the rollout ended, or waits for a person."""
        found = self.store.list_rollouts(CHAT)
        return bool(found) and (found[0].value.state in ROLLOUT_FINAL or found[0].value.state == "paused")

    def users_hurt(self, revision: RevisionId) -> int:
        """Return users' requests to a revision that missed a limit, those still in flight beyond one included."""
        slos = self.spec.slos.latency
        done = [r for r in self.records.records if r.revision == revision and not r.replayed]
        hurt = sum(read_outcome(record, slos).outcome in (Outcome.MISSED, Outcome.FAILED) for record in done)
        waiting = [f for f in self._flying.values() if f.revision == revision and f.first_s is None]
        return hurt + sum(self.now_s - request.at_s > 2.5 for request in waiting)

    def users_of(self, revision: RevisionId) -> int:
        return sum(r.revision == revision and not r.replayed for r in self.records.records)

    def tick(self) -> None:
        """A quarter of a second goes by; some of them end in a pass of the controller."""
        self.clock.go_on(TICK_S)
        while self._next[0] <= self.now_s:
            self._arrive(*self._next)
            self._next = next(self._users)
        for engine_id, twin in self._twins.items():
            while (step := twin.next_step(self.now_s)) is not None:
                for emission in step.emitted:
                    self._emitted(engine_id, emission.request_id, emission.tokens, emission.finished, emission.at_s)
        self._ticks += 1
        if self._ticks % self.ticks_per_pass == 0:
            self.router.in_flight = in_flight(self.flying, self.spec.name, self.now_s)
            if self.tells:
                self.pressures.told = {name: self._pressure(name, twin) for name, twin in self._twins.items()}
            self.controller.run_pass()

    def _pressure(self, engine_id: EngineId, twin: TwinEngine) -> Pressure:
        lost = self._served[engine_id] / self.leaks_after if self._leaking(engine_id) else 0.0
        memory = TAKEN + (1 - TAKEN) * min(1.0, lost)
        return Pressure(self.clock(), twin.counters.preemptions, twin.kv_usage, twin.waiting, memory)

    def _leaking(self, engine_id: EngineId) -> bool:
        return without_emulator_flags(self.fleet.observe(engine_id).spec.config) == self.leaks

    @property
    def flying(self) -> Collection[Request]:
        return self._flying.values()

    def submit(self, engine_id: EngineId, request: Request) -> int:
        self._sent += 1
        self._leak(engine_id)
        self._flying[self._sent] = request
        if self._hang(engine_id):
            return self._sent
        self._twin(engine_id).submit(
            self._sent, prompt_tokens=request.prompt, max_tokens=request.wanted, now_s=request.at_s
        )
        return self._sent

    def _hang(self, engine_id: EngineId) -> bool:
        config = without_emulator_flags(self.fleet.observe(engine_id).spec.config)
        return config == self.hangs and self._served[engine_id] % self.hang_every == 0

    def _leak(self, engine_id: EngineId) -> None:
        """Let an engine whose memory grows with each request die when it is full; whatever it serves is broken off."""
        self._served[engine_id] = self._served.get(engine_id, 0) + 1
        if not self._leaking(engine_id) or self._served[engine_id] <= self.leaks_after:
            return
        self.fleet.crash(engine_id)
        for number, flying in list(self._flying.items()):
            if flying.engine_id == engine_id and flying.revision is not None:
                broken = self._as_gateway_record(number, engine_id, flying, self.now_s)
                self.records.add(broken.evolve(status=502, error="upstream_disconnected"))
            if flying.engine_id == engine_id:
                del self._flying[number]

    def cancel(self, number: int) -> None:
        request = self._flying.pop(number, None)
        if request is not None:
            self._twin(request.engine_id).cancel(number, self.now_s)

    def _arrive(self, at_s: float, prompt: int, wanted: int) -> None:
        table = self.router.tables["gw-1"]
        routes = [r for r in table.services[0].revisions if r.backends] if table and table.services else []
        if not routes:
            return
        route = self._chance.choices(routes, weights=[each.weight_percent for each in routes])[0]
        counts = {b.engine_id: 0 for b in route.backends}
        for flying in self._flying.values():
            if flying.engine_id in counts:
                counts[flying.engine_id] += 1
        chosen = EngineId(min(counts, key=lambda name: counts[name]))
        ahead = counts[chosen]
        self.submit(chosen, Request(at_s, chosen, wanted, prompt, revision=route.revision, ahead=ahead))

    def _twin(self, engine_id: EngineId) -> TwinEngine:
        if engine_id not in self._twins:
            engine = self.fleet.observe(engine_id)
            config = without_emulator_flags(engine.spec.config)
            shape = load_shape(engine.spec.model)
            self._twins[engine_id] = TwinEngine(resolve(shape, self.spec.gpus.type, config))
        return self._twins[engine_id]

    def _emitted(self, engine_id: EngineId, number: int, tokens: int, finished: bool, at_s: float) -> None:
        request = self._flying.get(number)
        if request is None:
            return
        request.first_s, request.last_s = request.first_s or at_s, at_s
        request.tokens += tokens
        if not finished:
            return
        del self._flying[number]
        if request.revision is None:
            self.answered.append(as_record(request, at_s, self._run_began_s))
        else:
            self.records.add(self._as_gateway_record(number, engine_id, request, at_s))

    def run_begins(self) -> None:
        self.answered, self._run_began_s = [], self.now_s

    def _as_gateway_record(self, number: int, engine_id: EngineId, request: Request, at_s: float) -> GatewayRecord:
        ttft_ms, tpot_ms, e2e_ms = latencies(request, at_s)
        return GatewayRecord(
            id=f"r{number}",
            at=self.started + timedelta(seconds=request.at_s),
            gateway="gw-1",
            service=self.spec.name,
            model=self.spec.model.name,
            revision=request.revision,
            engine_id=engine_id,
            path="/v1/chat/completions",
            stream=True,
            status=200,
            ahead=request.ahead,
            prompt_tokens=request.prompt,
            output_tokens=request.tokens,
            ttft_ms=ttft_ms,
            tpot_ms=tpot_ms,
            e2e_ms=e2e_ms,
        )
