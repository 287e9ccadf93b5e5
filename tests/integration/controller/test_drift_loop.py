"""Traffic changes, and the fleet is tuned for it and promoted with nobody touching anything: a whole loop in fake time.

The real controller, study runner and search; engines, gateways and load are fakes that the twin drives.
"""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.operations.drift import DriftOptions, DriftPolicy
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.studies.study import Study, StudyState
from controlplane.domain.workload import Lengths, SyntheticWorkload
from controlplane.services.controller.reconcile import Controller
from controlplane.services.fleet.serving import register_service
from controlplane.services.operations.savings import read_saved
from controlplane.services.studies.manage import create_study
from tests.builders_serving import CHAT, some_options
from tests.fakes.record_source import FakeRecordSource
from tests.fakes.store import FakeStore
from tests.fakes.traffic_router import FakeTrafficRouter
from tests.unit.studies.study_world import SHORT, World, service_spec

SPACE = {"quantization": {"choices": [None, "fp8"]}, "max-num-seqs": {"choices": [64, 256]}}
MEASURED = SyntheticWorkload(prompt_tokens=Lengths(mean=500, cv=0.3), output_tokens=Lengths(mean=100, cv=0.3))
TEN_MINUTES_S = 600
ALONE = some_options(50, 100, load_share=0.1)
"""Users alone prove the load; what makes up the rest has tests of its own."""


class Loop:
    """A service measured with prompts of 500 tokens, its controller, and a worker that takes what waits."""

    def __init__(self, folder: Path) -> None:
        spec = service_spec(tuning={"space": SPACE, "budget": {"engine_starts": 10}, "levels": SHORT}).evolve(
            workload=MEASURED, drift=DriftOptions(policy=DriftPolicy.TUNE_AND_APPLY), rollout=ALONE
        )
        self.world = World(folder, spec=spec)
        self.world.store = FakeStore()  # the service is registered below, with a revision that serves
        self.router, self.records = FakeTrafficRouter(), FakeRecordSource()
        self.sent, self.chance = 0, random.Random(1)
        self.controller = Controller(
            store=self.world.store,
            fleet=self.world.fleet,
            router=self.router,
            records=self.records,
            flights=self.router,
            news=self.router,
            clock=self.world.clock,
            create_study=create_study,
            monotonic=self.world.clock.monotonic,
        )
        register_service(self.world.store, spec, actor="cli", now=self.world.clock())
        self.seconds(5, prompts=0)
        create_study(self.world.store, service=CHAT, actor="cli", now=self.world.clock())
        assert self.works().state is StudyState.DONE

    def seconds(self, count: int, *, prompts: int) -> None:
        """Let seconds go by with eight requests each, of so many prompt tokens; none where that is 0."""
        for _ in range(count):
            self.world.clock.go_on(1)
            self.controller.run_pass()
            for _ in range(8 if prompts else 0):
                self._request(prompts)

    def works(self) -> Study:
        study = self.world.runner().run_next()
        assert study is not None
        return study

    def told(self, *prefixes: str) -> list[str]:
        events = reversed(self.world.store.list_events(service=CHAT))
        return [each.action for each in events if each.action.startswith(prefixes)]

    def _request(self, prompts: int) -> None:
        table = self.router.tables["gw-1"]
        assert table is not None
        self.sent += 1
        routes = [each for each in table.services[0].revisions if each.backends and each.weight_percent]
        share, until = self.sent * 37 % 100, 0
        for route in routes:
            until += route.weight_percent
            if share < until:
                self.records.add(self._record(route.revision, route.backends[0].engine_id, prompts))
                return

    def _record(self, revision: str, engine: str, prompts: int) -> GatewayRecord:
        return GatewayRecord(
            id=f"r{self.sent}",
            at=self.world.clock() + timedelta(seconds=self.chance.random()),
            gateway="gw-1",
            service=CHAT,
            model="llama-8b",
            revision=revision,
            engine_id=engine,
            path="/v1/chat/completions",
            stream=True,
            status=200,
            prompt_tokens=prompts,
            output_tokens=100,
            ttft_ms=90,
            tpot_ms=10,
            e2e_ms=1090,
        )


def test_changed_traffic_is_tuned_for_and_what_is_found_is_promoted_with_nobody_touching_anything(
    tmp_path: Path,
) -> None:
    loop = Loop(tmp_path)
    store = loop.world.store
    before = store.get_service(CHAT).value.stable
    loop.seconds(TEN_MINUTES_S, prompts=500)
    assert loop.told("drift.", "rollout.") == [], "traffic as it was measured is no news"

    loop.seconds(TEN_MINUTES_S, prompts=1500)
    assert loop.told("drift.") == ["drift.found", "drift.study"]
    study = loop.works()
    assert (study.state, study.created_by, study.apply_when_done) == (StudyState.DONE, "drift", True)
    assert isinstance(study.spec.workload, SyntheticWorkload)
    assert 1000 <= study.spec.workload.prompt_tokens.mean <= 1500, "the batch in which it was found"
    assert study.recommendation is not None
    assert study.recommendation.improvement, study.recommendation.summary

    loop.seconds(TEN_MINUTES_S, prompts=1500)
    [rollout] = [each.value for each in store.list_rollouts(CHAT)]
    service = store.get_service(CHAT).value
    assert rollout.state is RolloutState.PROMOTED, rollout.reason
    assert service.stable == rollout.canary != before
    assert store.get_revision(rollout.canary).config == study.recommendation.config
    people = {each.actor for each in store.list_events(service=CHAT) if each.at > study.created_at}
    assert "cli" not in people

    loop.seconds(TEN_MINUTES_S, prompts=1500)
    assert loop.told("drift.") == ["drift.found", "drift.study"], "what is measured now is what the traffic is"
    saved = read_saved(store, store.get_service(CHAT).value)
    assert saved is not None
    assert (saved.study_id, saved.revision) == (study.study_id, rollout.canary)
    assert saved.saved_usd_per_hour > 0
