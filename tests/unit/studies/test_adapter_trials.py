"""Trials load the service's adapters and ask for them by their shares, so that what they cost is measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from controlplane.domain.adapters import AdapterVersion, ServedAdapter
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.errors import InvalidInput, Unavailable
from controlplane.domain.operations.what_if import WhatIf
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.answer import Answer
from controlplane.domain.studies.study import StudyState, Trial, TrialKind, TrialState
from controlplane.domain.studies.tuning_options import TuningOptions
from controlplane.services.adapters.shares import AdapterShares, SeenShares, read_shares
from controlplane.services.studies.manage import create_study
from controlplane.services.what_if import what_if
from tests.builders_serving import CHAT, a_trial
from tests.fakes.fleet import FakeClock, FakeFleet
from tests.fakes.record_source import FakeRecordSource
from tests.fakes.trial_engines import trial_engines
from tests.unit.domain.test_ab_counting import record
from tests.unit.studies.study_world import LONG, World, service_spec

LORA = {
    "kind": "emulator",
    "version": "0.26",
    "flags": {"max-model-len": 8192, "enable-lora": True},
    "env": {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"},
}
SPACE = {"max-loras": {"choices": [1, 4]}, "quantization": {"choices": [None, "fp8"]}}
TUNING = {"space": SPACE, "budget": {"engine_starts": 10}, "levels": LONG}
DECLARED = {
    "sql": {"path": "/adapters/sql", "share_percent": 40},
    "law": {"path": "/adapters/law", "share_percent": 10},
}


class Loader:
    """What was loaded where. `refused` paths no engine takes; `deaf`: none answers."""

    def __init__(self, *, refused: str | None = None, deaf: bool = False) -> None:
        self.loads: list[tuple[str, str, str]] = []
        self._refused, self._deaf = refused, deaf

    def loaded(self, engine: Engine) -> Mapping[str, str]:
        return {}

    def load(self, engine: Engine, name: str, path: str) -> None:
        if self._deaf:
            raise Unavailable(f"{engine.spec.engine_id} does not answer")
        if path == self._refused:
            raise InvalidInput(f"the engine refuses the adapter {path}", why="LoRA rank 32 is greater than 16")
        self.loads.append((engine.spec.engine_id, name, path))

    def unload(self, engine: Engine, name: str) -> None:
        raise AssertionError("a trial's engine ends with its adapters")


def lora_spec(**tuning: Any) -> ServiceSpec:
    return service_spec(engine=LORA, tuning={**TUNING, **tuning})


def run_one(spec: ServiceSpec, loader: Loader | None, replicas: int = 1) -> Trial:
    clock = FakeClock()
    engines = trial_engines(FakeFleet(gpus=4, clock=clock), clock, clock.go_on, adapters=loader)
    trial = a_trial(state=TrialState.RUNNING, replicas=replicas)
    return engines.run(trial, spec, lambda ready, _: ready.evolve(state=TrialState.FEASIBLE))


def test_every_engine_of_a_trial_has_every_adapter_before_it_is_measured() -> None:
    loader = Loader()
    assert run_one(lora_spec(adapters=DECLARED), loader, replicas=2).state is TrialState.FEASIBLE
    assert [load[1:] for load in loader.loads] == [("sql", "/adapters/sql"), ("law", "/adapters/law")] * 2
    assert len({engine for engine, _, _ in loader.loads}) == 2


def test_a_configuration_whose_engine_refuses_an_adapter_is_infeasible() -> None:
    ended = run_one(lora_spec(adapters=DECLARED), Loader(refused="/adapters/law"))
    assert (ended.state, ended.reason) == (
        TrialState.INFEASIBLE,
        "the engine refuses the adapter /adapters/law: LoRA rank 32 is greater than 16",
    )


@pytest.mark.parametrize("loader", [Loader(deaf=True), None])
def test_an_engine_that_does_not_answer_says_nothing_of_its_configuration(loader: Loader | None) -> None:
    assert run_one(lora_spec(adapters=DECLARED), loader).state is TrialState.FAILED


def test_a_whole_study_asks_for_them_at_every_level_and_says_that_no_twin_helps(tmp_path: Path) -> None:
    world, loader = World(tmp_path, spec=lora_spec(adapters=DECLARED)), Loader()
    study = create_study(world.store, service=world.spec.service, actor="anna", now=world.clock())
    assert study.plan is not None
    assert "the twin does not know what requests for adapters (sql, law) cost" in (study.plan.note or "")
    world.adapters = loader
    assert world.runner().run_next() is not None
    assert world.store.get_study(study.study_id).value.state is StudyState.DONE
    assert {tuple(level.adapters.items()) for level in world.load.levels} == {(("sql", 0.4), ("law", 0.1))}
    checks = [each for each in world.store.list_trials(study.study_id) if each.value.kind is TrialKind.CONFIRM_FLEET]
    assert checks, "the fleet is checked with adapters too"
    assert {("sql", "law")} == {
        tuple(dict.fromkeys(route.name for route in each.adapters)) for each in world.gateways.seen
    }


@pytest.mark.slow
def test_room_for_the_adapters_that_users_ask_for_wins(tmp_path: Path) -> None:
    names = [f"a{number}" for number in range(8)]
    spec = service_spec(
        engine=LORA,
        workload={"kind": "synthetic", "prompt_tokens": {"mean": 200}, "output_tokens": {"mean": 40}},
        slos={"latency": [{"metric": "ttft_ms", "percentile": 90, "limit_ms": 500}], "target_qps": 30},
        tuning={
            "space": {"max-loras": {"choices": [1, 8]}},
            "budget": {"engine_starts": 4},
            "levels": {"min_s": 2, "max_s": 4, "longest_s": 4, "warmup_s": 1, "precision": 0.3},
            "adapters": {name: {"path": f"/adapters/{name}", "share_percent": 12} for name in names},
            "confirm_fleet": False,
        },
    )
    world = World(tmp_path, spec=spec)
    study = create_study(world.store, service=CHAT, actor="anna", now=world.clock())
    world.adapters, world.load.with_places = Loader(), True
    assert world.runner().run_next() is not None
    found = world.store.get_study(study.study_id).value.recommendation
    assert found is not None
    assert found.answer is Answer.IMPROVEMENT
    assert found.config.flags["max-loras"] == 8


def serving(world: World, *names: str) -> None:
    """Let the service serve adapters, each in its third version."""
    row = world.store.get_service(world.spec.service)
    versions = [
        AdapterVersion(number=n, path=f"/adapters/{n}", added_at=world.clock(), added_by="anna") for n in (1, 3, 4)
    ]
    served = tuple(ServedAdapter(name=name, versions=versions, stable=3) for name in names)
    world.store.save_service(row.value.evolve(adapters=served), row.version)


def test_what_is_served_is_asked_for_as_users_did(tmp_path: Path) -> None:
    world = World(tmp_path, spec=lora_spec())
    serving(world, "sql", "law")
    asked = ["sql--3", "sql--3", "sql--2", None, None, None, None, None]
    seen = [record(f"r{n}", at=world.clock(), adapter=name, engine_id="e-1") for n, name in enumerate(asked)]
    spared = [
        record("hit", at=world.clock(), engine_id=None),
        record("own", at=world.clock(), adapter="law--3", engine_id="e-1", replayed=True),
    ]
    shares = AdapterShares(
        store=world.store, records=FakeRecordSource([*seen, *spared]), clock=world.clock, monotonic=lambda: 0.0
    )
    assert shares.run() == []
    assert read_shares(world.store, CHAT) == SeenShares(requests=8, of={"sql": 3})
    study = create_study(world.store, service=CHAT, actor="anna", now=world.clock())
    found = study.spec.tuning.adapters or {}
    assert {name: (each.path, each.share_percent) for name, each in found.items()} == {
        "sql": ("/adapters/3", 37.5),
        "law": ("/adapters/3", 0.0),
    }
    assert study.spec.tuning.asked_adapters == {"sql": 0.375}


def test_what_a_service_declares_goes_before_what_it_serves(tmp_path: Path) -> None:
    world = World(tmp_path, spec=lora_spec(adapters={}))
    serving(world, "sql")
    study = create_study(world.store, service=CHAT, actor="anna", now=world.clock())
    assert study.spec.tuning.adapters == {}
    assert study.spec.has_twin


def test_engines_that_load_none_are_refused_before_a_gpu_is_spent(tmp_path: Path) -> None:
    world = World(tmp_path, spec=service_spec(tuning={**TUNING, "adapters": DECLARED}))
    with pytest.raises(InvalidInput, match="without the flag enable-lora"):
        create_study(world.store, service=CHAT, actor="anna", now=world.clock())


def test_shares_beyond_all_requests_are_refused() -> None:
    with pytest.raises(ValidationError, match="their shares sum to 110 %"):
        TuningOptions.model_validate(
            {"adapters": {name: {"path": "/a", "share_percent": 55} for name in ("sql", "law")}}
        )


def test_a_forecast_is_refused_where_the_twin_knows_nothing() -> None:
    with pytest.raises(InvalidInput, match=r"requests for adapters \(sql, law\) cost"):
        what_if(lora_spec(adapters=DECLARED), WhatIf())
