"""Processes that die at the wrong moment: nothing is orphaned, nothing is started twice, no GPU is lost or shared."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controlplane.adapters.fleet_processes import host as host_processes
from controlplane.adapters.fleet_processes.fleet import FleetProcesses
from controlplane.adapters.fleet_processes.records import Record, RecordFolder
from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import EngineSpec, EngineState
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.errors import Unavailable
from controlplane.domain.process import ProcessId
from controlplane.host.processes import identify, is_alive
from tests.contract.fleet_subjects import GPUS, a_spec, stop_all

ID = EngineId("e-1")
_SPAWN = multiprocessing.get_context("spawn")


def sleeping(engine_id: str = "e-1", *, script: str = "exec sleep 1000", gpus: int = 1) -> EngineSpec:
    """An engine that starts at once, never answers and never ends by itself."""
    command = ("sh", "-c", f"{script} # {{port}} {{args}}")
    return a_spec(engine_id, gpus=gpus).evolve(command=command, start_timeout_s=600)


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    stop_all(FleetProcesses(tmp_path, gpus=GPUS), wait)
    assert marked(tmp_path) == []


def wait(done: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + 240
    while not done():
        assert time.monotonic() < give_up_s, "never came about"
        time.sleep(0.02)


def marked(state_dir: Path) -> list[int]:
    """Every running process of any engine of a state directory."""
    folder = RecordFolder(state_dir)
    ids = [path.name for path in (state_dir / "engines").iterdir()]
    return [pid for name in ids for pid in host_processes.members(folder.mark(EngineId(name)), None)]


def an_intent(state_dir: Path, spec: EngineSpec, *, process: ProcessId | None = None) -> None:
    """What a process leaves behind that was killed right after it wrote down what it was about to start."""
    record = Record(
        spec=spec, host="127.0.0.1", port=21999, gpu_indices=(2,), started_at=datetime.now(UTC), process=process
    )
    RecordFolder(state_dir).write(record)


def test_an_engine_intended_but_never_spawned_is_spawned_by_whoever_looks_next(state_dir: Path) -> None:
    an_intent(state_dir, sleeping())
    engine = FleetProcesses(state_dir, gpus=GPUS).observe(ID)
    assert (engine.state, engine.gpu_indices) == (EngineState.STARTING, (2,))
    assert marked(state_dir) == [engine.pid]


def test_an_engine_intended_but_no_longer_wanted_is_never_spawned(state_dir: Path) -> None:
    an_intent(state_dir, sleeping())
    assert FleetProcesses(state_dir, gpus=GPUS).stop(ID, drain_s=5).state is EngineState.STOPPED
    assert marked(state_dir) == []


def test_an_engine_spawned_but_not_recorded_is_found_and_not_started_twice(state_dir: Path) -> None:
    started = FleetProcesses(state_dir, gpus=GPUS).start(sleeping())
    an_intent(state_dir, sleeping())  # as if the pid had never been written down
    assert FleetProcesses(state_dir, gpus=GPUS).start(sleeping()).pid == started.pid
    assert marked(state_dir) == [started.pid]


def test_an_engine_in_the_middle_of_its_exec_is_found(state_dir: Path) -> None:
    """A process has no environment for an instant of its exec: 1 look in 12 fell into it."""
    for number in range(100):
        mark = f"{state_dir}#{number}"
        started = host_processes.spawn(
            ["sh", "-c", "exec sleep 1000"], {**os.environ, host_processes.MARK: mark}, state_dir / "log"
        )
        found = host_processes.members(mark, None)
        os.kill(started.pid, signal.SIGKILL)
        os.waitpid(started.pid, 0)
        assert found == [started.pid]
    (state_dir / "engines").mkdir()


def test_a_second_fleet_sees_and_stops_what_the_first_started(state_dir: Path) -> None:
    first, second = (FleetProcesses(state_dir, gpus=GPUS) for _ in range(2))
    started = first.start(sleeping())
    assert [engine.pid for engine in second.list()] == [started.pid]
    assert second.free_gpus() == GPUS - 1
    second.stop(ID, drain_s=0)
    assert first.observe(ID).state is EngineState.STOPPED


def test_a_reused_pid_is_not_mistaken_for_the_engine(state_dir: Path) -> None:
    own = identify(os.getpid())
    assert own is not None
    an_intent(state_dir, sleeping(), process=own.evolve(started_ticks=own.started_ticks - 1))
    assert FleetProcesses(state_dir, gpus=GPUS).observe(ID).state is EngineState.FAILED
    assert is_alive(own)


def test_a_process_of_an_earlier_boot_is_gone(state_dir: Path) -> None:
    own = identify(os.getpid())
    assert own is not None
    an_intent(state_dir, sleeping(), process=own.evolve(boot_id="another boot"))
    assert FleetProcesses(state_dir, gpus=GPUS).observe(ID).state is EngineState.FAILED


@pytest.mark.parametrize("script", ["sleep 1000 & sleep 1001 & wait", "setsid sleep 1000 & wait"])
def test_workers_that_outlive_their_engine_are_ended_before_its_gpus_are_free(state_dir: Path, script: str) -> None:
    fleet = FleetProcesses(state_dir, gpus=GPUS)
    started = fleet.start(sleeping(script=script, gpus=2))
    assert started.pid is not None
    wait(lambda: len(marked(state_dir)) >= 2)
    os.kill(started.pid, signal.SIGKILL)
    wait(lambda: fleet.observe(ID).state is EngineState.FAILED)
    assert (marked(state_dir), fleet.free_gpus()) == ([], GPUS)


def test_an_engine_that_ignores_sigterm_is_killed(state_dir: Path) -> None:
    fleet = FleetProcesses(state_dir, gpus=GPUS, term_grace_s=0.2)
    ignores = state_dir / "ignores"
    fleet.start(sleeping(script=f"trap '' TERM; touch {ignores}; while :; do sleep 0.1; done"))
    wait(ignores.exists)
    assert fleet.stop(ID, drain_s=60).state is EngineState.DRAINING
    wait(lambda: fleet.observe(ID).state is EngineState.STOPPED)
    assert marked(state_dir) == []


def test_an_exit_seen_by_a_fleet_that_is_not_the_parent_keeps_its_exit_code(state_dir: Path) -> None:
    parent, other = (FleetProcesses(state_dir, gpus=GPUS) for _ in range(2))
    parent.start(sleeping(script="exit 7"))
    wait(lambda: other.observe(ID).state is EngineState.FAILED)
    failed = other.observe(ID)
    assert failed.failure is StartFailure.OTHER
    assert "exit code 7" in str(failed.failure_detail)


def _race(state_dir: Path, name: str) -> None:
    fleet = FleetProcesses(state_dir, gpus=GPUS)
    for number in range(GPUS):
        try:
            fleet.start(sleeping(f"{name}-{number}"))
        except Unavailable:
            return


def test_processes_racing_for_gpus_get_each_one_once(state_dir: Path) -> None:
    racers = [_SPAWN.Process(target=_race, args=(state_dir, f"racer-{n}")) for n in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    engines = FleetProcesses(state_dir, gpus=GPUS).list()
    assert sorted(gpu for engine in engines for gpu in engine.gpu_indices) == list(range(GPUS))
    assert len({engine.url for engine in engines}) == GPUS


def _start_and_stop_for_ever(state_dir: Path) -> None:
    fleet = FleetProcesses(state_dir, gpus=GPUS)
    for number in range(1000):
        engine_id = EngineId(f"e-{os.getpid()}-{number}")
        try:
            fleet.start(sleeping(engine_id))
        except Unavailable:
            oldest = next(e for e in fleet.list() if not e.state.is_over)
            fleet.stop(oldest.spec.engine_id, drain_s=0)
        for engine in fleet.list():
            if engine.state is EngineState.STOPPED:
                fleet.forget(engine.spec.engine_id)


@pytest.mark.parametrize("seed", range(4))
def test_a_process_killed_at_any_moment_leaves_every_engine_accounted_for(state_dir: Path, seed: int) -> None:
    victim = _SPAWN.Process(target=_start_and_stop_for_ever, args=(state_dir,))
    victim.start()
    assert victim.pid is not None
    wait(lambda: (state_dir / "engines").is_dir() and any((state_dir / "engines").iterdir()))
    time.sleep(random.Random(seed).uniform(0, 0.3))
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    engines = FleetProcesses(state_dir, gpus=GPUS).list()
    live = [engine for engine in engines if not engine.state.is_over]
    held = [gpu for engine in live for gpu in engine.gpu_indices]
    assert sorted(marked(state_dir)) == sorted(engine.pid for engine in live if engine.pid is not None)
    assert len(held) == len(set(held))
    assert [engine for engine in engines if engine.state is EngineState.FAILED] == []
