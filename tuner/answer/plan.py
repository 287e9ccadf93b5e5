"""How a study divides its budget, by what it measured so far. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.domain.engines.engine import EngineKind
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.pace import pace_of
from controlplane.domain.studies.study import Trial, TrialKind
from controlplane.domain.studies.study_plan import PlanStage, StudyPlan
from tuner.answer.attempts import waiting
from tuner.answer.confirm import NOT_AGAIN, baseline_is_out, round_starts
from tuner.answer.policy import Spent
from tuner.answer.reserve import reserved_replicas, reserved_rounds, wanted_replicas

_LEVELS = 4  # of a ladder
_CHECK_LEVELS = 3  # of which one, at least, tries a replica fewer
_CONFIRMING = (TrialKind.CONFIRM_WINNER, TrialKind.CONFIRM_BASELINE)


def plan_of(spec: ServiceSpec, trials: Sequence[Trial] = (), *, twin: str | None = None) -> StudyPlan:
    """Return the stages of a study: what was started and what is still to be, in real seconds.

    `twin` is what is to be said of the twin that the search goes by.
    """
    start_s, level_s = _start_s(spec, trials), _level_s(spec)
    trial_s = start_s + _LEVELS * level_s
    rounds = reserved_rounds(spec, trials)
    confirming = max(round_starts(spec, trials) * rounds, _started(trials, *_CONFIRMING))
    kept = reserved_replicas(spec, trials)
    check = max(kept, _started(trials, TrialKind.CONFIRM_FLEET))
    search = max(0, spec.tuning.budget.engine_starts - 1 - confirming - check)
    check_s = start_s + _CHECK_LEVELS * _check_level_s(spec) if check else 0.0
    stages = (
        PlanStage(name="baseline", engine_starts=1, expected_s=trial_s),
        PlanStage(name="search", engine_starts=search, expected_s=search * trial_s),
        PlanStage(name="confirmation", engine_starts=confirming, expected_s=confirming * trial_s),
        PlanStage(name="fleet check", engine_starts=check, expected_s=check_s),
    )
    unheld = 0 if check else wanted_replicas(spec, trials)
    alone = NOT_AGAIN if baseline_is_out(spec, trials) else None
    notes = [waiting(trials), twin, _no_twin(spec), alone, _note(spec, stages, unheld, rounds)]
    return StudyPlan(stages=stages, note="; ".join(filter(None, notes)) or None)


def _no_twin(spec: ServiceSpec) -> str | None:
    without = [way.engine.driver.title for way in spec.ways.values() if not way.engine.driver.has_twin]
    if not without and not spec.has_twin:
        asked = ", ".join(spec.tuning.asked_adapters)
        return f"the twin does not know what requests for adapters ({asked}) cost: the search goes by its trials alone"
    if not without:
        return None
    verb = "has" if len(set(without)) == 1 else "have"
    return f"{' and '.join(dict.fromkeys(without))} {verb} no twin: the search goes by its trials alone"


def _note(spec: ServiceSpec, stages: Sequence[PlanStage], unheld: int, rounds: int) -> str | None:
    """Say what the budget does not hold: a check of so many replicas, or the time."""
    budget, expected_s = spec.tuning.budget, sum(stage.expected_s for stage in stages)
    if unheld:
        least = 2 + 2 * rounds + unheld
        return (
            f"the fleet check does not fit: an improvement would stay unproved; {least} engine starts or more hold it"
        )
    if budget.wall_clock_s is not None and expected_s > budget.wall_clock_s:
        return f"the wall clock of {budget.wall_clock_s:g} s is expected to end the search early"
    return None


def _started(trials: Sequence[Trial], *kinds: TrialKind) -> int:
    return sum(trial.replicas for trial in trials if trial.kind in kinds)


def _start_s(spec: ServiceSpec, trials: Sequence[Trial]) -> float:
    seen = [trial.start_s for trial in trials if trial.start_s is not None]
    if seen:
        return sum(seen) / len(seen)
    return spec.engine.emulator.startup_s if spec.engine.kind is EngineKind.EMULATOR else spec.engine.driver.start_s


def _level_s(spec: ServiceSpec) -> float:
    levels = spec.tuning.levels
    return (levels.warmup_s + levels.max_s) / spec.engine.time_lapse


def lacks_time(spec: ServiceSpec, used: Spent, check: Trial, running_s: float) -> str | None:
    """Return what of the budget does not hold another level of a check that runs so long; None for nothing."""
    budget, level_s = spec.tuning.budget, _check_level_s(spec)
    if budget.wall_clock_s is not None and used.wall_clock_s + level_s > budget.wall_clock_s:
        return f"the budget of {budget.wall_clock_s:g} s holds no further level"
    gpu_s = used.gpu_seconds + check.gpus * (running_s + level_s)
    if budget.gpu_hours is not None and gpu_s > budget.gpu_hours * 3600:
        return f"the budget of {budget.gpu_hours:g} GPU-hours holds no further level"
    return None


def _check_level_s(spec: ServiceSpec) -> float:
    check = pace_of(spec, TrialKind.CONFIRM_FLEET, spec.slos.target_qps, residence_s=None)
    return check.whole_s / spec.engine.time_lapse
