"""A worker that waits for something else keeps its claim and its engines."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.fleet import EngineState
from controlplane.domain.errors import Unavailable
from controlplane.domain.launch import engine_spec
from controlplane.domain.studies.study import STUDY_LEASE_S, StudyState, TrialKind
from controlplane.services.controller.claims import ClaimWatch
from controlplane.services.controller.jobs import reap_trials
from controlplane.services.studies.heartbeat import Heartbeat
from controlplane.services.studies.session import StudySession
from controlplane.services.studies.trial_engine import Interrupted, engine_ids, owner
from tests.unit.studies.study_world import STUDY, World, pending, service_spec

PATIENCE_S = 240.0


def a_session(world: World) -> StudySession:
    pending(world)
    world.store.claim_study("w1", now=world.clock(), lease_s=STUDY_LEASE_S)
    return StudySession(world.store, STUDY, worker="w1", host="here", clock=world.clock)


def test_a_scoring_command_longer_than_the_lease_keeps_its_engine(tmp_path: Path) -> None:
    world = World(tmp_path)
    session = a_session(world)
    trial = session.new_trial(TrialKind.SEARCH, EngineConfig())
    (engine,) = engine_ids(trial)
    spec = world.spec
    wanted = engine_spec(
        engine, owner(trial), model=spec.model, engine=spec.engine, gpus=spec.gpus, config=trial.config
    )
    world.fleet.start(wanted)
    watch = ClaimWatch(world.clock.monotonic)
    with session.beating(every_s=0.001):
        for _ in range(40):  # seconds of a command during which this thread does nothing else
            world.clock.go_on(1)
            _await_a_beat(world)
            reap_trials(world.store, world.fleet, world.fleet.list(), claims=watch)
        assert world.fleet.observe(engine).state is EngineState.READY
        assert world.store.claim_study("w2", now=world.clock(), lease_s=STUDY_LEASE_S) is None
    for _ in range(40):
        world.clock.go_on(1)
        reap_trials(world.store, world.fleet, world.fleet.list(), claims=watch)
    assert list(world.fleet.list()) == []


def _await_a_beat(world: World) -> None:
    """Wait until the thread, which lives in real time, has seen the fake clock's new second."""
    deadline = threading.Event()
    for _ in range(int(PATIENCE_S / 0.001)):
        if world.store.study_claims(STUDY)[0].heartbeat_at == world.clock():
            return
        deadline.wait(0.001)
    raise AssertionError("no beat came")


def test_a_claim_that_was_dropped_is_told_at_the_next_check(tmp_path: Path) -> None:
    world = World(tmp_path)
    session = a_session(world)
    with session.beating(every_s=0.001) as heart:
        world.store.release_study(STUDY, "w1")
        for _ in range(int(PATIENCE_S / 0.001)):
            if heart.told is not None:
                break
            threading.Event().wait(0.001)
        with pytest.raises(Interrupted, match="taken for lost"):
            session.check()


def test_a_study_that_was_aborted_is_let_go(tmp_path: Path) -> None:
    world = World(tmp_path)
    session = a_session(world)
    session.change_study(lambda study: study.evolve(state=StudyState.ABORTED))
    with pytest.raises(Interrupted, match="the study is aborted"):
        session.check()


def test_a_store_that_is_away_for_a_moment_ends_nothing() -> None:
    answers: list[Exception | str | None] = [Unavailable("the store cannot be reached"), None, "over"]
    done = threading.Event()

    def beat() -> str | None:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            done.set()
        return answer

    with Heartbeat(beat, every_s=0.001) as heart:
        assert done.wait(PATIENCE_S)
    assert (heart.told, answers) == ("over", [])


def test_nothing_beats_any_more_when_the_study_is_left() -> None:
    beats: list[int] = []
    with Heartbeat(lambda: beats.append(1), every_s=0.001):
        pass
    count = len(beats)
    threading.Event().wait(0.02)
    assert len(beats) == count


def test_claims_follow_what_is_seen_and_not_what_a_set_clock_says(tmp_path: Path) -> None:
    world = World(tmp_path)
    a_session(world)
    watch = ClaimWatch(world.clock.monotonic)

    def living() -> frozenset[str]:
        return watch.living(STUDY, world.store.study_claims(STUDY))

    assert living() == {"w1"}
    for step in (35.0, -3600.0, 86400.0):
        world.clock.step(step)
        world.clock.go_on(10)
        assert living() == {"w1"}
        world.store.heartbeat(STUDY, "w1", now=world.clock())
        assert living() == {"w1"}
    world.clock.step(-7200)
    world.clock.go_on(STUDY_LEASE_S + 1)
    assert living() == frozenset()


def test_a_new_controller_waits_a_whole_lease_before_it_calls_a_worker_lost(tmp_path: Path) -> None:
    world = World(tmp_path, spec=service_spec())
    a_session(world)
    world.clock.go_on(10 * STUDY_LEASE_S)
    watch = ClaimWatch(world.clock.monotonic)
    assert watch.living(STUDY, world.store.study_claims(STUDY)) == {"w1"}
    world.clock.go_on(STUDY_LEASE_S + 1)
    assert watch.living(STUDY, world.store.study_claims(STUDY)) == frozenset()
