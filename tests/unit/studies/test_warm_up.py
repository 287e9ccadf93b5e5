"""Engines that compile at first use are warmed up before their first level, and then measured as those that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.domain.base import TrialId
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.errors import InvalidInput, Unavailable
from controlplane.domain.service import EmulatorOptions, ServiceSpec
from controlplane.domain.studies.study import Trial, TrialKind, TrialState
from controlplane.domain.studies.warm_up import Probe
from controlplane.ports.load import EngineProber
from controlplane.services.studies.run_trial import Climb, TrialRunner
from controlplane.services.studies.trial_engine import Interrupted, TrialEngines
from controlplane.services.studies.trial_level import LevelRunner
from controlplane.services.studies.trial_plan import ladder_of, seed_of, workload_of
from controlplane.services.studies.warm_up import LIMIT_SHARE, WarmUpRunner
from tests.fakes.compiling import TwinProber
from tests.fakes.fleet import FakeClock, FakeFleet
from tests.fakes.trial_engines import trial_engines
from tests.fakes.twin_load import TwinLoadTester
from tests.unit.studies.study_world import STUDY, service_spec

STALL_S = 5.0
PLAIN = service_spec()
COMPILING = PLAIN.evolve(engine=PLAIN.engine.evolve(emulator=EmulatorOptions(first_use_s=STALL_S)))
Bracket = tuple[float, float]


def a_trial(spec: ServiceSpec, **changes: object) -> Trial:
    trial = Trial(
        trial_id=TrialId("t-1"),
        study_id=STUDY,
        number=0,
        kind=TrialKind.BASELINE,
        config=spec.baseline,
        state=TrialState.RUNNING,
        started_at=FakeClock()(),
    )
    return trial.evolve(**changes)


class Bench:
    """Trials on emulated H200s in virtual time; an engine compiles anew in each of its lives."""

    def __init__(self, folder: Path, *, prober: EngineProber | None = None) -> None:
        self.clock = FakeClock()
        self.fleet = FakeFleet(gpus=4, clock=self.clock)
        self.load = TwinLoadTester(self.fleet, self.clock, gpu="H200")
        self.twin_prober = TwinProber(self.load, self.clock)
        self.prober = prober or self.twin_prober
        self.saved: list[Trial] = []
        self._folder = folder

    def engines(self, *, warm: bool = True) -> TrialEngines:
        runner = WarmUpRunner(self.prober, lambda: None, lambda _: None)
        return trial_engines(
            self.fleet, self.clock, self.clock.go_on, save=self.saved.append, warm_up=runner if warm else None
        )

    def climbed(self, spec: ServiceSpec, *, warm: bool = True) -> Trial:
        levels = LevelRunner(self.load, self._folder, check=lambda: None, on_progress=lambda _: None)
        trial = a_trial(spec)
        climb = Climb(ladder_of(spec, trial, ()), workload_of(spec, trial), seed_of(spec, trial, ()))
        return TrialRunner(self.engines(warm=warm), levels).run(trial, spec, climb)


def bracket(trial: Trial) -> Bracket:
    assert trial.capacity is not None, trial.reason
    return trial.capacity.low_rps, trial.capacity.high_rps


def test_what_compiles_at_first_use_is_measured_as_what_does_not_once_it_is_warm(tmp_path: Path) -> None:
    plain, warm = Bench(tmp_path).climbed(PLAIN), Bench(tmp_path).climbed(COMPILING)
    assert bracket(warm) == pytest.approx(bracket(plain))
    assert [level.passed for level in warm.levels] == [level.passed for level in plain.levels]
    assert (plain.warm_up, warm.warm_up and warm.warm_up.steady) == (None, True)
    assert warm.reason is None


def test_without_a_warm_up_compilation_is_taken_for_the_configurations_doing(tmp_path: Path) -> None:
    plain, cold = Bench(tmp_path).climbed(PLAIN), Bench(tmp_path).climbed(COMPILING, warm=False)
    assert [level.passed for level in cold.levels] != [level.passed for level in plain.levels]


class Scripted:
    """Answers each probe after the next of the given times; an error among them is raised. The last is repeated."""

    def __init__(self, *took: float | Exception) -> None:
        self._took = list(took)
        self.asked: list[tuple[str, int]] = []

    def ask(self, engine: Engine, probe: Probe, *, seed: int, timeout_s: float) -> float:
        self.asked.append((engine.spec.engine_id, seed))
        took = self._took.pop(0) if len(self._took) > 1 else self._took[0]
        if isinstance(took, Exception):
            raise took
        return took


def warmed(folder: Path, prober: EngineProber, **changes: object) -> Trial:
    """Return a trial as it is when its first level would begin."""
    bench = Bench(folder, prober=prober)
    trial = a_trial(COMPILING, config=EngineConfig(flags={"max-num-seqs": 4, "max-num-batched-tokens": 64}), **changes)
    return bench.engines().run(trial, COMPILING, lambda ready, _: ready)


def test_the_warm_up_is_part_of_the_start_and_saved_before_the_first_level(tmp_path: Path) -> None:
    prober = Scripted(0.5)
    trial = warmed(tmp_path, prober)
    assert trial.warm_up is not None
    assert (trial.warm_up.sweeps, trial.warm_up.steady, trial.warm_up.why) == (2, True, None)
    assert trial.warm_up.took_s == 0.5 * len(prober.asked)
    assert trial.startup_s is not None
    assert trial.start_s == trial.startup_s + trial.warm_up.took_s
    assert len({seed for _, seed in prober.asked}) == len(prober.asked)  # no prompt is found in a cache


def test_every_replica_of_a_fleet_is_warmed_up(tmp_path: Path) -> None:
    prober = Scripted(0.1)
    warmed(tmp_path, prober, kind=TrialKind.CONFIRM_FLEET, replicas=3)
    counts = {engine: sum(each == engine for each, _ in prober.asked) for engine, _ in prober.asked}
    assert len(counts) == 3
    assert len(set(counts.values())) == 1


def test_an_engine_that_joins_a_fleet_is_warmed_up_alone(tmp_path: Path) -> None:
    prober = Scripted(0.1)
    bench = Bench(tmp_path, prober=prober)
    engines = bench.engines()

    def grows(ready: Trial, _: object) -> Trial:
        before = len(prober.asked)
        larger, joined = engines.grow(ready, COMPILING)
        assert joined is not None
        assert {engine for engine, _ in prober.asked[before:]} == {joined.spec.engine_id}
        return larger

    trial = engines.run(a_trial(COMPILING, kind=TrialKind.CONFIRM_FLEET), COMPILING, grows)
    assert trial.warm_up is not None
    assert trial.warm_up.took_s == pytest.approx(0.1 * len(prober.asked))


@pytest.mark.parametrize(
    ("took", "why"),
    [
        ([Unavailable("the engine did not answer")], "did not answer"),
        ([InvalidInput("no such path")], "refuses every probe"),
        ([LIMIT_SHARE * COMPILING.engine.start_timeout_s], "225 s are over"),
        ([0.1 * 3 ** (number // 10) for number in range(50)], ": 5 sweeps, 121 s"),  # of ten probes each
    ],
)
def test_what_is_never_steady_is_measured_all_the_same_and_its_trial_says_so(
    took: list[float | Exception], why: str, tmp_path: Path
) -> None:
    trial = warmed(tmp_path, Scripted(*took))
    assert trial.state is TrialState.RUNNING
    ended = Bench(tmp_path).engines().ended(trial, TrialState.FEASIBLE, None)
    assert ended.reason is not None
    assert ended.reason.startswith("not in steady state before its first level: ")
    assert why in ended.reason


def test_sizes_that_an_engine_refuses_are_left_out(tmp_path: Path) -> None:
    trial = warmed(tmp_path, Scripted(0.1, InvalidInput("too long"), 0.1))
    assert trial.warm_up is not None
    assert trial.warm_up.steady


def test_a_study_that_is_aborted_ends_during_the_warm_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path, prober=Scripted(0.1))

    def aborted() -> None:
        raise Interrupted

    runner = WarmUpRunner(bench.prober, aborted, lambda _: None)
    engines = bench.engines()
    with pytest.raises(Interrupted):
        type(engines)(**{**vars(engines), "warm_up": runner}).run(a_trial(COMPILING), COMPILING, lambda ready, _: ready)
    assert bench.fleet.list() == []


@pytest.mark.parametrize(
    ("kind", "warms_up"), [(EngineKind.VLLM, True), (EngineKind.SGLANG, True), (EngineKind.LLAMA_CPP, False)]
)
def test_kinds_that_compile_at_first_use_are_warmed_up(kind: EngineKind, warms_up: bool) -> None:
    assert PLAIN.engine.evolve(kind=kind).compiles_at_first_use is warms_up
    assert COMPILING.engine.evolve(kind=kind).compiles_at_first_use is warms_up


def test_the_emulator_is_only_where_it_is_told_to_compile() -> None:
    assert not PLAIN.engine.compiles_at_first_use
    assert COMPILING.engine.compiles_at_first_use
