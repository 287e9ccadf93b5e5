"""A load tester without sockets: the twin serves the schedule, a fake clock goes on by as much as the level took.

What it reports is built by the real report code, so a trial on it is judged as a real one. It can also play the outside
world: noise on every latency, and generators that break.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.fleet import EngineSpec
from controlplane.domain.errors import Unavailable
from controlplane.domain.launch import without_emulator_flags
from controlplane.domain.report import RequestRecord
from controlplane.emulator.dialects.command_line import counted
from controlplane.ports.fleet import FleetView
from controlplane.ports.load import LoadProgress, LoadRequest, LoadResult, Watch
from loadtests.measure.records import RecordTable
from loadtests.report.report import Measured, build_report
from loadtests.send.schedule import build_schedule
from tests.fakes.fleet import FakeClock
from tests.fakes.gateways import FakeGateways
from tests.fakes.twin_adapters import asked, serve
from tuner.twin.first_use import FirstUse
from tuner.twin.remembered import simulate_once
from tuner.twin.setup import EngineSetup, resolve
from tuner.twin.shapes import load_shape
from tuner.twin.simulate import RequestArrays, ResultArrays

_LOOK_EVERY_S = 0.5


class Latencies(NamedTuple):
    """Per request, seconds from its instant."""

    ttft_s: npt.NDArray[np.float64]
    tpot_s: npt.NDArray[np.float64]
    e2e_s: npt.NDArray[np.float64]
    max_gap_s: npt.NDArray[np.float64]


class TwinLoadTester:
    """Implements `ports.LoadTester` for engines of a fleet, told apart by their URL, also behind FakeGateways.

    `noise` is the standard deviation of the logarithm of each level's speed; `breaks` the share of levels that end with
    a broken generator. Both are seeded. Engines of other kinds are the twin's too, `speeds` times as fast. Above
    `most_rps` the generator runs out of connections. Requests for adapters are served as those for the base model,
    unless `with_places`: then places for adapters decide, in a simulation that takes far longer.
    """

    def __init__(
        self,
        fleet: FleetView,
        clock: FakeClock,
        *,
        gpu: str,
        gateways: FakeGateways | None = None,
        noise: float = 0.0,
        breaks: float = 0.0,
        seed: int = 0,
        speeds: Mapping[EngineKind, float] | None = None,
    ) -> None:
        self._speeds = speeds or {}
        self._gateways = gateways or FakeGateways()
        self._fleet = fleet
        self._clock = clock
        self._gpu = gpu
        self._noise = noise
        self._breaks = breaks
        self._random = random.Random(seed)
        self.levels: list[LoadRequest] = []
        self.most_rps = float("inf")
        self.with_places = False
        self._compiled: dict[str, FirstUse] = {}  # by engine: each life begins anew
        self.rests = 0

    def rest(self) -> None:
        self.rests += 1

    def compiled(self, spec: EngineSpec) -> FirstUse | None:
        """Return what an engine has compiled so far; None for one that compiles nothing while it serves."""
        stall_s = spec.config.flags.get("emulator-first-use-s")
        return None if stall_s is None else self._compiled.setdefault(spec.engine_id, FirstUse(float(stall_s)))

    def run(self, request: LoadRequest, *, out_dir: Path, watch: Watch | None = None) -> LoadResult:
        self.levels.append(request)
        if self._random.random() < self._breaks:
            raise Unavailable("the load generator broke", why="killed by signal 9")
        total_s = request.warmup_s + request.duration_s
        schedule = build_schedule(request.workload, rate_rps=request.rate_rps, duration_s=total_s, seed=request.seed)
        arrays = RequestArrays(schedule.scheduled_s, schedule.prompt_tokens, schedule.output_tokens)
        slower = float(np.exp(self._random.gauss(0, self._noise))) * self._gateways.slowness(request.url)
        table = _table(arrays, self._served(request, arrays), slower)
        ended_s, stopped = _watched(table, request, total_s, watch)
        self._clock.go_on(ended_s / request.time_lapse)
        kept = table.where(table.scheduled_s + table.e2e_ms / 1e3 <= ended_s if stopped else table.index >= 0)
        run = Measured(
            target=request.url,
            rate_rps=request.rate_rps,
            duration_s=max(ended_s - request.warmup_s, 1e-3),
            warmup_s=request.warmup_s,
            time_lapse=request.time_lapse,
            seed=request.seed,
            slos=request.slos,
            stopped_early=stopped,
            not_sent=1 if request.rate_rps > self.most_rps else 0,
        )
        return LoadResult(build_report(run, kept, np.empty(0)), out_dir / "records.jsonl")

    def _served(self, request: LoadRequest, arrays: RequestArrays) -> Latencies:
        """Let the engines behind the URL serve the requests in turn."""
        engines = self._gateways.engines_at(request.url)
        adapters = asked(request.adapters, len(arrays.scheduled_s), request.seed) if self.with_places else []
        served = Latencies(*np.empty((4, len(arrays.scheduled_s))))
        for place, engine in enumerate(engines):
            mine = slice(place, None, len(engines))
            part = RequestArrays(arrays.scheduled_s[mine], arrays.prompt_tokens[mine], arrays.output_tokens[mine])
            spec = next(each.spec for each in self._fleet.list() if each.url == engine)
            setup = resolve(load_shape("llama-8b"), self._gpu, _as_vllm(spec))
            result = _result(setup, part, adapters[mine], self.compiled(spec))
            for name in Latencies._fields:
                getattr(served, name)[mine] = getattr(result, name) / self._speeds.get(spec.kind, 1.0)
        return served


def _result(
    setup: EngineSetup, part: RequestArrays, adapters: list[str | None], first_use: FirstUse | None
) -> Latencies | ResultArrays:
    if not adapters and first_use is None:
        return simulate_once(setup, part)
    return Latencies(*serve(setup, part, adapters or [None] * len(part.scheduled_s), first_use=first_use))


def _as_vllm(spec: EngineSpec) -> EngineConfig:
    """Return what of an engine's flags the twin knows."""
    if spec.kind in (EngineKind.VLLM, EngineKind.EMULATOR):
        return without_emulator_flags(spec.config)
    return EngineConfig(flags={"max-model-len": 8192, **counted(spec.kind, spec.config.flags)})


def _table(arrays: RequestArrays, result: Latencies, slower: float) -> RecordTable:
    n = len(arrays.scheduled_s)
    return RecordTable(
        index=np.arange(n),
        scheduled_s=arrays.scheduled_s,
        lag_ms=np.zeros(n),
        prompt_tokens=arrays.prompt_tokens,
        output_tokens=arrays.output_tokens,
        ttft_ms=result.ttft_s * 1e3 * slower,
        tpot_ms=result.tpot_s * 1e3 * slower,
        e2e_ms=result.e2e_s * 1e3 * slower,
        max_itl_ms=result.max_gap_s * 1e3 * slower,
        status=np.full(n, 200),
        cancelled=np.zeros(n, dtype=np.bool_),
        error=np.full(n, "", dtype=np.str_),
    )


def _watched(table: RecordTable, request: LoadRequest, total_s: float, watch: Watch | None) -> tuple[float, str | None]:
    """Show the level to the watcher as time goes on; return when it ended (emulated) and why it ended early."""
    if watch is None:
        return total_s, None
    ends_s = table.scheduled_s + table.e2e_ms / 1e3
    order = np.argsort(ends_s)
    records = [_record(table, int(row)) for row in order if table.scheduled_s[row] >= request.warmup_s]
    finished_s = [float(ends_s[row]) for row in order if table.scheduled_s[row] >= request.warmup_s]
    for now_s in np.arange(_LOOK_EVERY_S, total_s, _LOOK_EVERY_S):
        sent = int((table.scheduled_s <= now_s).sum())
        in_flight = sent - int((ends_s <= now_s).sum())
        seen = records[: int(np.searchsorted(finished_s, now_s, side="right"))]
        reason = watch(LoadProgress(float(now_s), sent, in_flight, seen))
        if reason is not None:
            return float(now_s), reason
    return total_s, None


def _record(table: RecordTable, row: int) -> RequestRecord:
    tpot = float(table.tpot_ms[row])
    return RequestRecord(
        index=int(table.index[row]),
        scheduled_s=float(table.scheduled_s[row]),
        lag_ms=0.0,
        prompt_tokens=int(table.prompt_tokens[row]),
        output_tokens=int(table.output_tokens[row]),
        wanted_tokens=int(table.output_tokens[row]),
        ttft_ms=float(table.ttft_ms[row]),
        tpot_ms=None if np.isnan(tpot) else tpot,
        e2e_ms=float(table.e2e_ms[row]),
        status=200,
    )
