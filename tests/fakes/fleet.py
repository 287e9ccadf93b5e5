"""A Fleet without processes: engines that start, answer, drain, crash and refuse as their flags say.

It reads the same specs as the real one, the emulator's own flags included, so one contract suite holds both.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import Engine, EngineSpec, EngineState
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.errors import Conflict, InvalidInput, NotFound, Unavailable
from tuner.space.knobs.schema import load_knobs

_START = datetime(2026, 1, 1, tzinfo=UTC)
SILENT_S = 7.0
HUNG_S = 60.0


class FakeClock:
    """A clock that stands still until it is told to go on, and that may be set."""

    def __init__(self, now: datetime = _START) -> None:
        self.now = now
        self._gone_s = 0.0

    def __call__(self) -> datetime:
        return self.now

    def go_on(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self._gone_s += seconds

    def step(self, seconds: float) -> None:
        """Set the clock forward or back: no time goes by."""
        self.now += timedelta(seconds=seconds)

    def monotonic(self) -> float:
        """Seconds that went by, however often the clock was set."""
        return self._gone_s


class FakeFleet:
    """The Fleet port in memory on `gpus` GPUs. `crash`, `occupy` and `release` play the outside world.

    Of the GPUs those in `spot` may be taken back; those in `leaving` are under notice.
    """

    def __init__(self, *, gpus: int, clock: FakeClock | None = None, spot: Collection[int] = ()) -> None:
        self._gpus = range(gpus)
        self._spot = frozenset(spot)
        self.leaving: set[int] = set()
        self.clock = clock or FakeClock()
        self._engines: dict[EngineId, Engine] = {}
        self._busy: dict[EngineId, int] = {}
        self._drain_until: dict[EngineId, datetime] = {}
        self._hung_since: dict[EngineId, datetime] = {}
        self._next_port = 20000

    def start(self, spec: EngineSpec) -> Engine:
        self._check(spec)
        if spec.engine_id in self._engines:
            return self.observe(spec.engine_id)
        free = [*self._shared(spec), *self._free(spec.spot)]
        if len(free) < spec.gpus:
            raise Unavailable(f"no {spec.gpus} GPUs for engine {spec.engine_id}", why=f"{len(free)} are free")
        self._next_port += 1
        engine = Engine(
            spec=spec,
            state=EngineState.STARTING,
            url=f"http://127.0.0.1:{self._next_port}",
            pid=self._next_port,
            gpu_indices=tuple(free[: spec.gpus]),
            started_at=self.clock(),
            log_path=f"/fake/{spec.engine_id}.log",
        )
        return self._keep(engine)

    def observe(self, engine_id: EngineId) -> Engine:
        engine = self._find(engine_id)
        match engine.state:
            case EngineState.STARTING:
                return self._keep(self._started(engine))
            case EngineState.DRAINING:
                return self._keep(self._drained(engine))
            case EngineState.READY:
                return self._keep(self._looked_at(engine))
            case EngineState.FAILED | EngineState.STOPPED:
                return engine

    def list(self) -> Sequence[Engine]:
        return [self.observe(engine_id) for engine_id in tuple(self._engines)]

    def in_flight(self, engine_id: EngineId) -> int | None:
        engine = self._find(engine_id)
        if engine.ready_at is None or engine.state.is_over:
            return None
        return self._busy.get(engine_id, 0)

    def stop(self, engine_id: EngineId, *, drain_s: float) -> Engine:
        engine = self._find(engine_id)
        if not engine.state.is_over:
            wanted = self.clock() + timedelta(seconds=drain_s)
            self._drain_until[engine_id] = min(wanted, self._drain_until.get(engine_id, wanted))
            self._keep(engine.evolve(state=EngineState.DRAINING))
        return self.observe(engine_id)

    def forget(self, engine_id: EngineId) -> None:
        engine = self._engines.get(engine_id)
        if engine is None:
            return
        if not engine.state.is_over:
            raise Conflict(f"engine {engine_id} is {engine.state}", allowed="forget it when stopped or failed")
        del self._engines[engine_id]

    def free_gpus(self, *, spot: bool | None = None) -> int:
        return len(self._free(spot))

    def crash(self, engine_id: EngineId) -> None:
        """Let an engine's process die."""
        engine = self._find(engine_id)
        if not engine.state.is_over:
            was_ready = engine.ready_at is not None
            failure = StartFailure.CRASHED if was_ready else StartFailure.OTHER
            self._keep(_failed(engine, failure, "killed by signal 9", self.clock()))

    def hang(self, engine_id: EngineId) -> None:
        """Let an engine's process stand still."""
        self._hung_since.setdefault(engine_id, self.clock())

    def wake(self, engine_id: EngineId) -> None:
        """Let it go on."""
        self._hung_since.pop(engine_id, None)

    def occupy(self, engine_id: EngineId, requests: int = 1) -> None:
        """Put requests into an engine."""
        self._busy[engine_id] = self._busy.get(engine_id, 0) + requests

    def release(self, engine_id: EngineId) -> None:
        """Let every request of an engine end."""
        self._busy.pop(engine_id, None)

    def _looked_at(self, engine: Engine) -> Engine:
        since = self._hung_since.get(engine.spec.engine_id)
        silent_s = 0.0 if since is None else (self.clock() - since).total_seconds()
        if silent_s >= HUNG_S:
            return _failed(engine, StartFailure.CRASHED, "hangs: no answer to its health checks", self.clock())
        return engine.evolve(answers=silent_s < SILENT_S)

    def _started(self, engine: Engine) -> Engine:
        refusal = _refusal(engine.spec)
        if refusal is not None:
            return _failed(engine, refusal, f"refused: {refusal.value}", self.clock())
        waited_s = (self.clock() - engine.started_at).total_seconds()
        if waited_s >= engine.spec.start_timeout_s:
            why = f"not ready within {engine.spec.start_timeout_s:g} s"
            return _failed(engine, StartFailure.TIMEOUT, why, self.clock())
        if waited_s < float(engine.spec.config.flags.get("emulator-startup-s", 0)):
            return engine
        return engine.evolve(state=EngineState.READY, ready_at=self.clock())

    def _drained(self, engine: Engine) -> Engine:
        over = self.clock() >= self._drain_until[engine.spec.engine_id]
        if over or not self._busy.get(engine.spec.engine_id):
            return engine.evolve(state=EngineState.STOPPED, ended_at=self.clock())
        return engine

    def _check(self, spec: EngineSpec) -> None:
        if not re.fullmatch(r"[a-z0-9-]+", spec.engine_id):
            raise InvalidInput(f"engine id {spec.engine_id!r}", allowed="a-z, 0-9 and -")
        there = len([gpu for gpu in self._gpus if (gpu in self._spot) == spec.spot])
        if spec.gpus > there:
            raise InvalidInput(f"an engine on {spec.gpus} GPUs cannot run here", why=f"there are {there}")
        if spec.config.gpus_per_replica > spec.gpus:
            raise InvalidInput(f"engine {spec.engine_id} is given too few GPUs", why=f"{spec.gpus}")

    def _find(self, engine_id: EngineId) -> Engine:
        if engine_id not in self._engines:
            raise NotFound(f"no engine {engine_id}")
        return self._engines[engine_id]

    def _free(self, spot: bool | None) -> Sequence[int]:
        live = [engine for engine in self._engines.values() if not engine.state.is_over]
        held = {gpu for engine in live for gpu in engine.gpu_indices}
        there = [gpu for gpu in self._gpus if spot is None or (gpu in self._spot) == spot]
        return [gpu for gpu in there if gpu not in held | self.leaving]

    def _shared(self, spec: EngineSpec) -> Sequence[int]:
        live = [each for each in self._engines.values() if not each.state.is_over]
        mates = [each for each in live if spec.shares_gpus and each.spec.shares_gpus == spec.shares_gpus]
        return sorted({gpu for each in mates for gpu in each.gpu_indices})

    def _keep(self, engine: Engine) -> Engine:
        self._engines[engine.spec.engine_id] = engine
        return engine


def _refusal(spec: EngineSpec) -> StartFailure | None:
    """Read from the flags why this engine would not start."""
    flags, known = spec.config.flags, load_knobs(engine=spec.driver.flag_files or "vllm")
    if any(known.find(name) is None and not name.startswith("emulator-") for name in flags):
        return StartFailure.REFUSED_FLAG
    return StartFailure.OUT_OF_MEMORY if "out-of-memory" in str(flags.get("emulator-fault", "")) else None


def _failed(engine: Engine, failure: StartFailure, detail: str, at: datetime) -> Engine:
    return engine.evolve(state=EngineState.FAILED, failure=failure, failure_detail=detail, ended_at=at)
