"""Measured against predicted: every trace cell of a folder, replayed with its own requests.

Cells that a profile was fitted on are left out; they are named in the profile's `sources`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from pydantic import Field

from controlplane.domain.base import Value
from controlplane.domain.slo import LatencyMetric
from tuner.twin.gpus import find_gpu
from tuner.twin.measurements import Cell, MeasuredEngine
from tuner.twin.predict import interval_ms
from tuner.twin.profile import Profile, shipped_profiles
from tuner.twin.replay import replay
from tuner.twin.setup import DoesNotFit, EngineSetup, resolve, weight_bits
from tuner.twin.simulate import ResultArrays
from tuner.twin.spread import Outcomes, outcomes, percentile_s
from tuner.twin.transfer import profile_for

PERCENTILES = (50, 99)
SATURATED_TTFT_S = 2.0
"""Beyond this P99 TTFT a cell counts as saturated: its latencies say how long the run was, not how fast the engine."""

ProfileFor = Callable[[MeasuredEngine], Profile | None]
"""Which profile predicts an engine; None leaves the choice to `resolve`."""


class CellMetric(Value):
    """One percentile of one cell, milliseconds."""

    id: str
    workload: str
    rate_rps: float
    metric: str = Field(examples=["ttft_ms_p99"])
    measured: float
    predicted: float
    low: float
    high: float
    saturated: bool = Field(description="Measured as saturated: not in the error statistics.")

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


class SaturatedCell(Value):
    """A cell above capacity: was that foreseen, and how fast did requests leave? Rates in requests per second."""

    id: str
    workload: str
    rate_rps: float
    predicted_saturated: bool
    measured_capacity_rps: float
    predicted_capacity_rps: float


class KvCheck(Value):
    """Tokens of KV cache, and whether the engine would start at all (every measured one did)."""

    id: str
    profile: str
    fits: bool
    measured_tokens: float
    predicted_tokens: float


class ValidationReport(Value):
    """Median and 90th percentile of |predicted / measured - 1| over unsaturated cells; coverage of 90 % intervals."""

    median_abs_error: float
    p90_abs_error: float
    coverage: float
    cells: tuple[CellMetric, ...]
    saturated: tuple[SaturatedCell, ...]
    kv: tuple[KvCheck, ...]
    false_alarms: tuple[str, ...] = Field(description="Cells that held but were predicted as saturated.")
    left_out: tuple[str, ...] = Field(description="Cells some profile was fitted on.")


def validate(engines: Iterable[MeasuredEngine], profile_for: ProfileFor = lambda engine: None) -> ValidationReport:
    """Return measured against predicted for every trace cell that no used profile was fitted on."""
    cells: list[CellMetric] = []
    saturated: list[SaturatedCell] = []
    kv: list[KvCheck] = []
    alarms: list[str] = []
    left_out: list[str] = []
    for engine in engines:
        setup = _setup(engine, profile_for(engine))
        kv.append(_kv_check(engine, setup))
        for cell in engine.cells if setup is not None else ():
            if cell.is_probe or setup is None:
                continue
            if source_name(engine, cell) in setup.profile.sources:
                left_out.append(source_name(engine, cell))
                continue
            found = outcomes(setup, partial(replay, setup, cell))
            result = found.expected
            cells += _metrics(engine, cell, found)
            foreseen = _predicted_saturated(cell, result)
            if cell.saturated:
                saturated.append(_saturated(engine, cell, result, foreseen=foreseen))
            elif foreseen:
                alarms.append(source_name(engine, cell))
    return _report(cells, saturated, kv, alarms, left_out)


def leave_one_out(engine: MeasuredEngine) -> Profile:
    """Return the profile for an engine as if its own kind had never been measured."""
    bits = weight_bits(engine.shape, engine.config)
    gpu, tensor = find_gpu(engine.gpu), engine.config.tensor_parallel_size
    kind = (gpu.name, engine.shape.name, bits, tensor)
    others = [
        profile
        for profile in shipped_profiles()
        if (profile.gpu, profile.model, profile.weight_bits, profile.tensor_parallel_size) != kind
    ]
    return profile_for(engine.shape, gpu, bits, tensor, others)


def source_name(engine: MeasuredEngine, cell: Cell) -> str:
    """Return how a profile names a cell it was fitted on."""
    return f"{engine.engine_id}: {cell.name}"


def _setup(engine: MeasuredEngine, profile: Profile | None) -> EngineSetup | None:
    try:
        return resolve(engine.shape, engine.gpu, engine.config, profile)
    except DoesNotFit:
        return None


def _kv_check(engine: MeasuredEngine, setup: EngineSetup | None) -> KvCheck:
    return KvCheck(
        id=engine.engine_id,
        profile="-" if setup is None else setup.profile.name,
        fits=setup is not None,
        measured_tokens=engine.kv_cache_tokens,
        predicted_tokens=0 if setup is None else setup.memory.kv_tokens,
    )


def _metrics(engine: MeasuredEngine, cell: Cell, result: Outcomes) -> list[CellMetric]:
    """Percentiles over the same requests on both sides: those whose measurement was not cut off."""
    whole = ~np.isnan(cell.e2e_s)
    several = whole & (cell.requests.output_tokens > 1)
    gaps = np.maximum(cell.requests.output_tokens - 1, 1)
    series = {
        LatencyMetric.TTFT: (cell.ttft_s, whole),
        LatencyMetric.TPOT: ((cell.e2e_s - cell.ttft_s) / gaps, several),
        LatencyMetric.E2E: (cell.e2e_s, whole),
    }
    found = []
    for metric, (seconds, counted) in series.items():
        measured = seconds[counted]
        for percentile in PERCENTILES:
            predicted = percentile_s(result, metric, percentile, counted)
            if predicted is None:
                continue
            value = interval_ms(predicted)
            found.append(
                CellMetric(
                    id=engine.engine_id,
                    workload=cell.workload,
                    rate_rps=cell.rate_rps or 0.0,
                    metric=f"{metric.value}_p{percentile}",
                    measured=float(np.percentile(measured, percentile)) * 1e3,
                    predicted=value.value,
                    low=value.low,
                    high=value.high,
                    saturated=cell.saturated,
                )
            )
    return found


def _predicted_saturated(cell: Cell, result: ResultArrays) -> bool:
    """The rule by which a measured cell counts as saturated, on what was predicted."""
    known = ~np.isnan(cell.ttft_s)
    slow = float(np.percentile(result.ttft_s[known], 99)) >= SATURATED_TTFT_S
    if cell.unfinished == 0:
        return slow
    cut_off_s = float(np.nanmax(cell.requests.scheduled_s + cell.e2e_s))
    return slow or bool(np.any(cell.requests.scheduled_s + result.e2e_s > cut_off_s))


def _saturated(engine: MeasuredEngine, cell: Cell, result: ResultArrays, *, foreseen: bool) -> SaturatedCell:
    return SaturatedCell(
        id=engine.engine_id,
        workload=cell.workload,
        rate_rps=cell.rate_rps or 0.0,
        predicted_saturated=foreseen,
        measured_capacity_rps=_leaving_rps(cell, cell.e2e_s),
        predicted_capacity_rps=_leaving_rps(cell, result.e2e_s),
    )


def _leaving_rps(cell: Cell, e2e_s: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    """Requests finished per second while the engine was kept full: from a quarter of the run to its last arrival."""
    span = float(cell.requests.scheduled_s[-1])
    done = cell.requests.scheduled_s + np.where(np.isnan(e2e_s), np.inf, e2e_s)
    return float(np.sum((done > span / 4) & (done <= span))) / (span * 3 / 4)


def _report(
    cells: list[CellMetric],
    saturated: list[SaturatedCell],
    kv: list[KvCheck],
    alarms: list[str],
    left_out: list[str],
) -> ValidationReport:
    counted = [cell for cell in cells if not cell.saturated]
    errors = np.abs([cell.error for cell in counted]) if counted else np.array([np.nan])
    inside = [cell.low <= cell.measured <= cell.high for cell in counted]
    return ValidationReport(
        median_abs_error=float(np.median(errors)),
        p90_abs_error=float(np.percentile(errors, 90)),
        coverage=float(np.mean(inside)) if inside else float("nan"),
        cells=tuple(cells),
        saturated=tuple(saturated),
        kv=tuple(kv),
        false_alarms=tuple(alarms),
        left_out=tuple(left_out),
    )
