"""Calibrating the twin inside a study, for free: by the levels that its baseline was measured with anyway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import InvalidInput
from controlplane.domain.report import LoadTestReport, Validity
from controlplane.domain.service import ServiceSpec
from controlplane.domain.slo import LatencyMetric
from controlplane.domain.studies.calibration import Calibration, Misfit
from controlplane.domain.studies.pace import pace_of
from controlplane.domain.studies.study import Trial, TrialKind, TrialState
from controlplane.services.studies.session import StudySession
from controlplane.services.studies.trial_level import residence_s
from controlplane.services.studies.trial_plan import requests_of, seed_of, workload_of
from tuner.space.first_tier import shape_of
from tuner.twin.corrected import factored, setup_here, stand_in_gpu, stand_in_shape
from tuner.twin.factors import SeenLoad, held_by, tellable
from tuner.twin.gpu_sheet import Gpu
from tuner.twin.gpus import gpu_of
from tuner.twin.rivals import explain
from tuner.twin.setup import EngineSetup, kv_bits, resolve, weight_bits
from tuner.twin.shapes import ModelShape

_HELD = 0.5
"""Share of the baseline's percentiles in the forecast's 90 % intervals below which the profile is contradicted."""
_MOST_LEVELS = 4  # the last of a ladder, which end around the capacity


class Stand(NamedTuple):
    """What a service's twin goes by: model and GPU, and the factors that were measured here; None: as they stand."""

    shape: ModelShape
    gpu: Gpu
    calibration: Calibration | None = None

    def setup(self, config: EngineConfig) -> EngineSetup:
        """Return the engine that a configuration makes. Raises as `resolve` does."""
        if self.calibration is None:
            return resolve(self.shape, self.gpu, config)
        return setup_here(self.shape, self.gpu, config, self.calibration)


def stand_of(spec: ServiceSpec, calibration: Calibration | None = None) -> Stand | None:
    """Return what predicts a service's engines; None when nothing does."""
    if calibration is not None:
        found = _stand_in(spec)
        return None if found is None else found._replace(calibration=calibration)
    shape, gpu = shape_of(spec), gpu_of(spec.gpus)
    return None if not spec.has_twin or shape is None or gpu is None else Stand(shape, gpu)


def misfits(spec: ServiceSpec) -> tuple[Misfit, ...]:
    """Return why no profile fits a service before anything is measured, where a calibration could mend that."""
    if not spec.has_twin or _stand_in(spec) is None:
        return ()
    gpu = gpu_of(spec.gpus)
    unknown_gpu = gpu is None or not gpu.has_speed
    return (Misfit.GPU,) * unknown_gpu + (Misfit.MODEL,) * (shape_of(spec) is None)


def twin_note(spec: ServiceSpec, calibration: Calibration | None = None) -> str | None:
    """Return what a plan says of a twin that did not fit; None when one does, or none ever will."""
    if calibration is not None:
        return calibration.summary
    match misfits(spec):
        case ():
            return None
        case found:
            why = f"no such engine was ever measured for the twin (simulated engine): {', '.join(found)}"
            return f"{why}; it forecasts nothing until what the baseline measures calibrates it"


def calibrate(session: StudySession) -> None:
    """Let the baseline's levels calibrate the twin where no profile fits; once a study, whoever measured it."""
    study = session.study
    if study.calibration is not None:
        return
    found = calibrated(study.spec, session.trials)
    if found is not None:
        event = session.event("study.calibrated", found.summary, trial=found.trial)
        session.change_study(lambda s: s.evolve(calibration=s.calibration or found), event)


def calibrated(spec: ServiceSpec, trials: Sequence[Trial]) -> Calibration | None:
    """Return what the baseline's levels make of the twin; None where its profile fits them, or nothing can be said."""
    baseline = next((t for t in trials if t.kind is TrialKind.BASELINE), None)
    if baseline is None or baseline.state not in (TrialState.FEASIBLE, TrialState.INFEASIBLE):
        return None
    stand, levels = _stand_in(spec), seen_loads(spec, baseline)
    if stand is None or not levels:
        return None
    try:
        why = misfits(spec) or _contradicted(stand, baseline.config, levels)
        return _fitted(stand, baseline, levels, why) if why else None
    except InvalidInput:  # the twin cannot serve what this engine did: it has nothing to say of it
        return None


def seen_loads(spec: ServiceSpec, trial: Trial) -> list[SeenLoad]:
    """Return the trial's levels with the arrivals they had."""
    workload, seed, found = workload_of(spec, trial), seed_of(spec, trial, (trial,)), []
    for place, level in enumerate(trial.levels):
        report = level.report
        plan = pace_of(spec, trial.kind, level.rate_rps, residence_s=residence_s(trial.levels[:place]))
        warmup_s = plan.warmup_s if level.warmup_s is None else level.warmup_s
        whole_s = plan.whole_s if report.stopped_early else warmup_s + report.duration_s
        requests = requests_of(workload, rate_rps=level.rate_rps, duration_s=whole_s, seed=seed)
        until_s = warmup_s + report.duration_s if report.stopped_early else None
        seen = SeenLoad(requests, measured_s(report), warmup_s, until_s)
        if seen.measured_s and report.validity is Validity.VALID:
            found.append(seen)
    return found[-_MOST_LEVELS:]


def measured_s(report: LoadTestReport) -> dict[tuple[LatencyMetric, float], float]:
    """Return the percentiles of a level that it had enough requests for, seconds."""
    found = {
        LatencyMetric.TTFT: report.ttft_ms,
        LatencyMetric.TPOT: report.tpot_ms,
        LatencyMetric.E2E: report.e2e_ms,
    }
    return {
        (metric, each.percentile): each.value / 1e3
        for metric, distribution in found.items()
        for each in distribution.percentiles
        if each.value > 0 and tellable(each.percentile, distribution.count)
    }


def _stand_in(spec: ServiceSpec) -> Stand | None:
    """Return model and GPU, or what stands in for them; None where nothing does, or the engine has no twin."""
    if not spec.has_twin:
        return None
    shape = stand_in_shape(spec.model.path, spec.engine.env)
    return None if shape is None else Stand(shape, stand_in_gpu(spec.gpus, shape, spec.baseline))


def _contradicted(stand: Stand, config: EngineConfig, levels: Sequence[SeenLoad]) -> tuple[Misfit, ...]:
    return (Misfit.CONTRADICTED,) if held_by(stand.setup(config), levels) < _HELD else ()


def _fitted(stand: Stand, baseline: Trial, levels: Sequence[SeenLoad], why: tuple[Misfit, ...]) -> Calibration:
    config = baseline.config
    known = why == (Misfit.CONTRADICTED,)
    explained = explain(lambda factors: factored(stand.shape, stand.gpu, config, factors), levels, known=known)
    found = explained.found
    return Calibration(
        misfits=why,
        factors=found.factors,
        trial=baseline.number,
        levels=len(levels),
        error_before=found.error_before,
        error_after=found.error_after,
        uncertainty=found.uncertainty,
        weight_bits=weight_bits(stand.shape, config),
        kv_bits=kv_bits(stand.shape, config),
        tensor_parallel_size=config.tensor_parallel_size,
        memory_gib=stand.gpu.memory_gib,
        rivals=explained.rivals,
    )
