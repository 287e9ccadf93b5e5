"""The fleets the contract is run on: the fake, and real processes of the emulator. Each plays the world in its way."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import httpx

from controlplane.adapters.fleet_processes.fleet import FleetProcesses
from controlplane.adapters.fleet_processes.looks import Pace
from controlplane.domain.base import EngineId
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.engines.fleet import Engine, EngineSpec, EngineState
from controlplane.domain.errors import NotFound
from controlplane.ports.fleet import Fleet
from tests.fakes.fleet import FakeFleet

GPUS = 4
_PATIENCE_S = 240.0  # only an engine that is dead keeps a test waiting for so long


class FleetSubject(Protocol):
    """A fleet of four GPUs and the outside world around it."""

    @property
    def fleet(self) -> Fleet: ...
    def crash(self, engine_id: EngineId) -> None: ...
    def hang(self, engine_id: EngineId) -> None: ...
    def wake(self, engine_id: EngineId) -> None: ...
    def busy(self, engine_id: EngineId) -> AbstractContextManager[None]: ...
    def wait(self, done: Callable[[], bool]) -> None: ...
    def close(self) -> None: ...


class FakeSubject:
    def __init__(self) -> None:
        self.fleet = FakeFleet(gpus=GPUS)

    def crash(self, engine_id: EngineId) -> None:
        self.fleet.crash(engine_id)

    def hang(self, engine_id: EngineId) -> None:
        self.fleet.hang(engine_id)

    def wake(self, engine_id: EngineId) -> None:
        self.fleet.wake(engine_id)

    @contextmanager
    def busy(self, engine_id: EngineId) -> Iterator[None]:
        self.fleet.occupy(engine_id)
        yield
        self.fleet.release(engine_id)

    def wait(self, done: Callable[[], bool]) -> None:
        for _ in range(1000):
            if done():
                return
            self.fleet.clock.go_on(0.1)
        raise AssertionError("never came about")

    def close(self) -> None:
        pass


class LiveSubject:
    """Engines that answer over HTTP, in real time."""

    fleet: Fleet

    @contextmanager
    def busy(self, engine_id: EngineId) -> Iterator[None]:
        """Hold one long stream open."""
        over = threading.Event()
        url = self.fleet.observe(engine_id).url
        client = threading.Thread(target=_stream, args=(f"{url}/v1/completions", over), daemon=True)
        client.start()
        self.wait(lambda: self.fleet.in_flight(engine_id) == 1)
        yield
        over.set()
        client.join()

    def wait(self, done: Callable[[], bool]) -> None:
        give_up_s = time.monotonic() + _PATIENCE_S
        while not done():
            if time.monotonic() > give_up_s:
                raise AssertionError("never came about")
            time.sleep(0.02)


class ProcessSubject(LiveSubject):
    """Real emulators, started as the fleet starts them."""

    def __init__(self, state_dir: Path, *, hung_s: float = 60.0) -> None:
        self.fleet: FleetProcesses = FleetProcesses(
            state_dir, gpus=GPUS, pace=Pace(every_s=0.1, timeout_s=0.5, hung_s=hung_s)
        )

    def crash(self, engine_id: EngineId) -> None:
        self._signal(engine_id, signal.SIGKILL)

    def hang(self, engine_id: EngineId) -> None:
        self._signal(engine_id, signal.SIGSTOP)

    def wake(self, engine_id: EngineId) -> None:
        self._signal(engine_id, signal.SIGCONT)

    def _signal(self, engine_id: EngineId, number: signal.Signals) -> None:
        pid = self.fleet.observe(engine_id).pid
        assert pid is not None
        os.kill(pid, number)

    def close(self) -> None:
        """Stop every engine; a test that leaves one running would leave it for ever."""
        stop_all(self.fleet, self.wait)


def stop_all(fleet: Fleet, wait: Callable[[Callable[[], bool]], None]) -> None:
    for engine in fleet.list():
        try:
            fleet.stop(engine.spec.engine_id, drain_s=0)
        except NotFound:
            continue
    wait(lambda: all(engine.state.is_over for engine in fleet.list()))


def a_spec(
    engine_id: str = "e-1", *, gpus: int = 1, start_timeout_s: float = _PATIENCE_S, **flags: FlagValue
) -> EngineSpec:
    """An emulated engine that starts at once unless its flags say otherwise (`a_flag=1` is `--a-flag=1`)."""
    quick: dict[str, FlagValue] = {"max-model-len": 8192, "emulator-startup-s": 0}
    given = {name.replace("_", "-"): value for name, value in flags.items()}
    return EngineSpec(
        engine_id=EngineId(engine_id),
        owner="trial/test/1",
        kind=EngineKind.EMULATOR,
        model="llama-8b",
        served_name="test-model",
        config=EngineConfig(flags={**quick, **given}),
        gpus=gpus,
        start_timeout_s=start_timeout_s,
    )


def observe_until(subject: FleetSubject, engine_id: EngineId, state: EngineState) -> Engine:
    """Look at an engine until it is in a state; fails early when it ended in another."""

    def there() -> bool:
        seen = subject.fleet.observe(engine_id)
        assert seen.state is state or not seen.state.is_over, f"{seen.state}: {seen.failure_detail}"
        return seen.state is state

    subject.wait(there)
    return subject.fleet.observe(engine_id)


def _stream(url: str, over: threading.Event) -> None:
    body = {"prompt": [1, 2, 3], "max_tokens": 8000, "stream": True, "ignore_eos": True}
    try:
        with httpx.stream("POST", url, json=body, timeout=_PATIENCE_S, trust_env=False, verify=False) as answer:
            for _ in answer.iter_lines():
                if over.is_set():
                    return
    except httpx.HTTPError:  # cut, as the test wanted
        return
