"""The world of one study, on one virtual clock: engines that take their time to start, or do not, and load on them.

Nothing here decides anything: the product's StudyRunner does, on these ports.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.answers.nature import Nature
from benchmarks.answers.routing import Lane, Served, serve
from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import Engine, EngineSpec, EngineState
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.errors import Unavailable
from controlplane.domain.launch import without_emulator_flags
from controlplane.domain.report import RequestRecord
from controlplane.ports.load import LoadProgress, LoadRequest, LoadResult, Watch
from loadtests.measure.records import RecordTable
from loadtests.report.report import Measured, build_report
from loadtests.send.schedule import build_schedule
from tests.fakes.fleet import FakeClock, FakeFleet
from tests.fakes.gateways import FakeGateways
from tuner.search.trial_time import compile_class
from tuner.twin.simulate import RequestArrays

_LIFE_SD, _LEVEL_SD = 0.03, 0.015  # log speed: of an engine's whole life, of one level in it
_LOST_SHARE, _STUCK_SHARE, _CUT_SHARE = 0.04, 0.01, 0.01  # starts that break, that never end; levels that break
_START_S, _START_S_PER_GIB = 45.0, 0.8  # process and graphs; weights of one GPU
_FRESH_FACTOR, _START_SD = 1.46, 0.08  # nothing of its compile class was started before (docs/search.md)
_OOM_S = 40.0
_LOOK_EVERY_S = 1.0


class Fate(NamedTuple):
    """What becomes of one start: ready after so many seconds, or failed."""

    after_s: float
    failure: StartFailure | None = None
    detail: str = ""


class VirtualFleet:
    """Implements `ports.Fleet`: a FakeFleet whose starts end as nature and chance have it. Seeded by engine id."""

    def __init__(self, nature: Nature, *, gpus: int, clock: FakeClock, seed: int) -> None:
        self._inner = FakeFleet(gpus=gpus, clock=clock)
        self._nature = nature
        self._seed = seed
        self._clock = clock
        self._fates: dict[EngineId, Fate] = {}
        self._starting: dict[EngineId, Engine] = {}
        self._compiled = set[frozenset[tuple[str, object]]]()

    def start(self, spec: EngineSpec) -> Engine:
        known = spec.engine_id in self._fates
        fate = self._fates[spec.engine_id] if known else self._fate(spec)
        waits_s = fate.after_s if fate.failure is None else math.inf
        started = self._inner.start(spec.evolve(config=spec.config.with_flags({"emulator-startup-s": waits_s})))
        self._fates[spec.engine_id] = fate  # only now: without GPUs nothing was started
        self._compiled.add(compile_class(without_emulator_flags(spec.config)))
        if started.state is EngineState.STARTING:
            self._starting[spec.engine_id] = started
        return self._told(started)

    def observe(self, engine_id: EngineId) -> Engine:
        fate, starting = self._fates[engine_id], self._starting.get(engine_id)
        if starting is not None and self._clock() < starting.started_at + timedelta(seconds=fate.after_s):
            return starting  # looked at five times a second
        self._starting.pop(engine_id, None)
        engine = self._inner.observe(engine_id)
        if engine.state is EngineState.STARTING and fate.failure is not None:
            self._inner.crash(engine_id)
        return self._told(self._inner.observe(engine_id))

    def list(self) -> Sequence[Engine]:
        return [self.observe(engine.spec.engine_id) for engine in self._inner.list()]

    def in_flight(self, engine_id: EngineId) -> int | None:
        return self._inner.in_flight(engine_id)

    def stop(self, engine_id: EngineId, *, drain_s: float) -> Engine:
        self._starting.pop(engine_id, None)
        return self._told(self._inner.stop(engine_id, drain_s=drain_s))

    def forget(self, engine_id: EngineId) -> None:
        self._inner.forget(engine_id)

    def free_gpus(self, *, spot: bool | None = None) -> int:
        return self._inner.free_gpus(spot=spot)

    def lane_at(self, url: str) -> Lane:
        """Return the engine that serves at an address, as fast as this life of it is."""
        spec = next(engine.spec for engine in self._inner.list() if engine.url == url)
        setup = self._nature.setup(without_emulator_flags(spec.config))
        assert setup is not None  # it would not have become ready
        return Lane(setup, math.exp(self._chance("life", spec.engine_id).gauss(0, _LIFE_SD)))

    def _told(self, engine: Engine) -> Engine:
        fate = self._fates[engine.spec.engine_id]
        if engine.state is not EngineState.FAILED or fate.failure is None:
            return engine
        return engine.evolve(failure=fate.failure, failure_detail=fate.detail)

    def _fate(self, spec: EngineSpec) -> Fate:
        chance, config = self._chance("start", spec.engine_id), without_emulator_flags(spec.config)
        if (luck := chance.random()) < _LOST_SHARE:
            return Fate(chance.uniform(5, 60), StartFailure.NODE_LOST, "the node was lost")
        setup = self._nature.setup(config)
        if setup is None:
            return Fate(_OOM_S, StartFailure.OUT_OF_MEMORY, "no available memory for the cache blocks")
        if luck < _LOST_SHARE + _STUCK_SHARE:
            return Fate(spec.start_timeout_s, StartFailure.TIMEOUT, "a stuck download")
        fresh = compile_class(config) not in self._compiled
        seconds = (_START_S + _START_S_PER_GIB * setup.memory.weights_gib) * math.exp(chance.gauss(0, _START_SD))
        return Fate(seconds * (_FRESH_FACTOR if fresh else 1.0))

    def _chance(self, what: str, engine_id: EngineId) -> random.Random:
        return random.Random(f"{self._seed} {what} {engine_id}")


class VirtualLoadTester:
    """Implements `ports.LoadTester`: the engines behind a URL serve the schedule, the clock goes on by what it took.

    Reports are the product's own, so that a level is judged as a real one is.
    """

    def __init__(self, fleet: VirtualFleet, gateways: FakeGateways, *, clock: FakeClock, seed: int) -> None:
        self._fleet = fleet
        self._gateways = gateways
        self._clock = clock
        self._chance = random.Random(f"levels {seed}")

    def rest(self) -> None:
        """Nothing is held between levels."""

    def run(self, request: LoadRequest, *, out_dir: Path, watch: Watch | None = None) -> LoadResult:
        total_s = request.warmup_s + request.duration_s
        breaks_s = total_s * self._chance.random() if self._chance.random() < _CUT_SHARE else None
        if breaks_s is not None:
            self._clock.go_on(breaks_s)
            raise Unavailable("the load generator broke", why="its time was over")
        schedule = build_schedule(request.workload, rate_rps=request.rate_rps, duration_s=total_s, seed=request.seed)
        arrays = RequestArrays(schedule.scheduled_s, schedule.prompt_tokens, schedule.output_tokens)
        slower = math.exp(self._chance.gauss(0, _LEVEL_SD))
        lanes = [self._fleet.lane_at(url) for url in self._gateways.engines_at(request.url)]
        served = serve([lane._replace(slower=lane.slower * slower) for lane in lanes], arrays)
        table = _table(arrays, served, request.timeout_s)
        ended_s, stopped = _watched(table, request, total_s, watch)
        self._clock.go_on(ended_s)
        done = table.where(_ends_s(table) <= ended_s)
        run = Measured(
            target=request.url,
            rate_rps=request.rate_rps,
            duration_s=request.duration_s if stopped is None else max(ended_s - request.warmup_s, 1e-3),
            warmup_s=request.warmup_s,
            time_lapse=request.time_lapse,
            seed=request.seed,
            slos=request.slos,
            stopped_early=stopped,
            unfinished=int((table.scheduled_s < ended_s).sum()) - len(done),
        )
        return LoadResult(build_report(run, done, np.empty(0)), out_dir / "records.jsonl")


def _table(arrays: RequestArrays, served: Served, timeout_s: float) -> RecordTable:
    """Return the records; a request that took longer than its client waits is an error of that length."""
    n = len(arrays.scheduled_s)
    late = served.e2e_s > timeout_s
    return RecordTable(
        index=np.arange(n),
        scheduled_s=arrays.scheduled_s,
        lag_ms=np.zeros(n),
        prompt_tokens=arrays.prompt_tokens,
        output_tokens=np.where(late, 0, arrays.output_tokens),
        ttft_ms=np.where(served.ttft_s > timeout_s, np.nan, served.ttft_s * 1e3),
        tpot_ms=np.where(late, np.nan, served.tpot_s * 1e3),
        e2e_ms=np.minimum(served.e2e_s, timeout_s) * 1e3,
        max_itl_ms=served.max_gap_s * 1e3,
        status=np.full(n, 200),
        cancelled=np.zeros(n, dtype=np.bool_),
        error=np.where(late, "timeout", ""),
    )


def _ends_s(table: RecordTable) -> NDArray[np.float64]:
    return np.asarray(table.scheduled_s + table.e2e_ms / 1e3)


def _watched(table: RecordTable, request: LoadRequest, total_s: float, watch: Watch | None) -> tuple[float, str | None]:
    """Show the level to the watcher as time goes on; return when it ended and why it ended early, if it did."""
    ends_s = _ends_s(table)
    last_s = max(total_s, float(ends_s.max(initial=0.0)))
    if watch is None:
        return last_s, None
    order = np.argsort(ends_s)
    counted = order[table.scheduled_s[order] >= request.warmup_s]
    records, finished_s = _records(table, counted), ends_s[counted]
    ordered_s = ends_s[order]
    for now_s in np.arange(_LOOK_EVERY_S, last_s, _LOOK_EVERY_S):
        sent = int(np.searchsorted(table.scheduled_s, now_s, side="right"))
        done = int(np.searchsorted(ordered_s, now_s, side="right"))
        seen = records[: int(np.searchsorted(finished_s, now_s, side="right"))]
        if (reason := watch(LoadProgress(float(now_s), sent, sent - done, seen))) is not None:
            return float(now_s), reason
    return last_s, None


class _Finished(NamedTuple):
    """A finished request, as much of it as an SLO looks at: whole records would take most of the benchmark's time."""

    ok: bool
    ttft_ms: float | None
    tpot_ms: float | None
    e2e_ms: float | None


def _records(table: RecordTable, rows: NDArray[np.int64]) -> Sequence[RequestRecord]:
    def column(values: NDArray[np.float64]) -> list[float | None]:
        return [None if math.isnan(value) else value for value in values[rows].tolist()]

    columns = (table.ok[rows].tolist(), column(table.ttft_ms), column(table.tpot_ms), column(table.e2e_ms))
    return cast(Sequence[RequestRecord], [_Finished(*each) for each in zip(*columns, strict=True)])
