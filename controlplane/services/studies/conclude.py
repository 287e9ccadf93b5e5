"""What a study's trials add up to: a recommendation with its evidence, or how far the best got."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.answer import Answer, Chances
from controlplane.domain.studies.capacity import Capacity, FleetSize, fleet_size
from controlplane.domain.studies.study import (
    Confirmed,
    Level,
    Recommendation,
    Study,
    StudyEvidence,
    Trial,
    TrialKind,
    TrialState,
)
from controlplane.domain.studies.tuning_options import ObjectiveKind
from controlplane.services.studies.summary import Told, go_on, summary
from controlplane.services.studies.trial_plan import token_cost
from tuner.answer.evidence import Measured, measured
from tuner.answer.fleet_check import checked
from tuner.answer.fleets import Interval, cost_ratio, holds, most_gpus, sized
from tuner.answer.policy import spent
from tuner.answer.standing import Decision, decide, gain_per_gpu, is_refuting, largest_reach
from tuner.answer.stated import capacity
from tuner.answer.winner import incumbent

NOTHING_MEETS = "no configuration meets the limits at any useful rate"
NOTHING_AFFORDABLE = "no fleet of any configuration costs"
"""What a study that was measured, and ended without a recommendation, begins to say."""

_SAME = Interval(1.0, 1.0, 1.0)
_CONFIRMATIONS = (TrialKind.CONFIRM_WINNER, TrialKind.CONFIRM_BASELINE)


def conclusion(
    study: Study, trials: Sequence[Trial], *, stopped_because: str, now: datetime, unchecked: str | None = None
) -> Recommendation | str:
    """Return the recommendation, or why there can be none (nothing met the limits, no GPU is affordable).

    `unchecked` says why the last measurement that was wanted was not made: the winner's fleet as a whole, mostly.
    """
    spec = study.spec
    if incumbent(spec, trials) is None:
        return f"{NOTHING_MEETS}; {closest(spec, trials)}"
    found = decide(spec, trials)
    kept = _kept(spec, trials, found)
    if kept is None:
        return _nothing_to_recommend(spec, trials)
    config, fleet = kept
    check = None
    if found.winner is not None and spec.tuning.confirm_fleet:
        check = checked(trials, found.winner, unchecked=unchecked)
    ended = _ended(trials, stopped_because)
    told = Told(config, fleet, check, *_numbers(spec, found, config, fleet), ended, unchecked)
    return Recommendation(
        study_id=study.study_id,
        service=study.service,
        improvement=found.answer.is_improvement,
        answer=found.answer,
        chances=told.chances,
        next_step=go_on(study, found, told, used=spent(study, trials, now=now)),
        summary=summary(spec, found, told),
        config=config.config,
        fleet=fleet,
        evidence=_evidence(study, trials, config, told, found.baseline_fleet),
        created_at=now,
    )


def _nothing_to_recommend(spec: ServiceSpec, trials: Sequence[Trial]) -> str:
    """Say why nothing is, though something met the limits: no money for it, or it was refuted since."""
    able = [t.config for t in trials if t.state is TrialState.FEASIBLE]
    ceiling = spec.slos.max_usd_per_hour
    if ceiling is not None and all(config.gpus_per_replica > most_gpus(spec) for config in able):
        return f"{NOTHING_AFFORDABLE} {ceiling:g} USD per hour or less"
    last = next((t for t in reversed(trials) if is_refuting(t) and t.config in able), None)
    why = "" if last is None else f": trial {last.number}: {last.reason or 'its answers differ'}"
    return f"nothing that met the limits can be recommended{why}"


def _ended(trials: Sequence[Trial], why: str) -> str:
    """Return why the search ended, and of how many candidates nothing is known because their experiments broke."""
    known = {t.config.content_hash() for t in trials if t.state is not TrialState.FAILED}
    lost = {t.config.content_hash(): t.reason for t in trials if t.kind is TrialKind.SEARCH}
    reasons = [reason for config, reason in lost.items() if config not in known]
    return f"{why}; {len(reasons)} more could not be measured: {reasons[0]}" if reasons else why


def closest(spec: ServiceSpec, trials: Sequence[Trial]) -> str:
    """Say how far the best got: the level nearest to its limits, and by how much it missed."""
    levels = [(level, trial) for trial in trials for level in trial.levels]
    if not levels:
        failures = "; ".join(sorted({t.reason for t in trials if t.reason}))
        return f"no engine took any load: {failures or 'none started'}"
    level, trial = min(levels, key=lambda pair: _worst_excess(pair[0]))
    parts = [
        f"{check.slo} measured {check.measured.value:.0f} ms" for check in level.report.slo_checks if check.measured
    ]
    flags = " ".join(trial.config.to_args()) or "defaults"
    return f"closest was trial {trial.number} ({flags}) at {level.rate_rps:.3g} requests/s: {', '.join(parts)}"


def _worst_excess(level: Level) -> float:
    checks = level.report.slo_checks
    return max(
        (c.measured.value / c.slo.limit_ms if c.measured else float("inf") for c in checks), default=float("inf")
    )


def _kept(spec: ServiceSpec, trials: Sequence[Trial], found: Decision) -> tuple[Measured, FleetSize] | None:
    """Return what is recommended: a fleet that exists here. None when not even one replica is affordable."""
    if found.winner is not None:
        return found.winner.measured, found.winner.fleet
    if found.answer is Answer.NO_IMPROVEMENT and found.baseline is not None and found.baseline_fleet is not None:
        return found.baseline, found.baseline_fleet
    best = largest_reach(spec, trials)
    if best is None:
        return None
    gpus = best.config.gpus_per_replica
    return best, fleet_size(most_gpus(spec) // gpus, gpus, spec.gpus)


def _numbers(spec: ServiceSpec, found: Decision, kept: Measured, fleet: FleetSize) -> tuple[Interval, Chances]:
    """Return the fleet's cost over the baseline's, and how sure the answer is."""
    gained = _gained(found, kept)
    saved = _SAME
    if found.winner is not None and found.baseline is not None and found.baseline_fleet is not None:
        was = found.baseline_fleet if found.answer.is_cheaper else fleet
        saved = cost_ratio(spec, fleet, kept, found.baseline, was)
    chances = Chances(
        holds=holds(spec, kept.belief, fleet.replicas),
        fewer_hold=_fewer_hold(spec, kept, fleet),
        cheaper=0.0 if found.winner is None else found.winner.cheaper,
        gains=0.0 if found.winner is None else found.winner.gains,
        capacity_ratio=gained.value,
        capacity_ratio_low=gained.low,
        capacity_ratio_high=gained.high,
        missed_saving=found.missed_saving,
        missed_chance=found.missed_chance,
        gpus_needed=sized(spec, kept).gpus if found.answer is Answer.OUT_OF_REACH else None,
    )
    return saved, chances


def _gained(found: Decision, kept: Measured) -> Interval:
    """Return the gain over the baseline of what is recommended, also of a fleet out of reach; the baseline has none."""
    if found.baseline is None or kept.config == found.baseline.config:
        return _SAME
    return gain_per_gpu(kept, found.baseline)


def _fewer_hold(spec: ServiceSpec, kept: Measured, fleet: FleetSize) -> float | None:
    """Return the probability that one replica fewer holds the target; None where there is none to do without."""
    needed = fleet.replicas - spec.tuning.objective.spare_replicas
    if needed < 2 or spec.tuning.objective.kind is ObjectiveKind.HIGHEST_GOODPUT:
        return None
    return holds(spec, kept.belief, fleet.replicas - 1)


def _evidence(
    study: Study, trials: Sequence[Trial], kept: Measured, told: Told, was: FleetSize | None
) -> StudyEvidence:
    baseline = next(t for t in trials if t.kind is TrialKind.BASELINE)
    winner = _shown(kept) or baseline
    before = next((m for m in measured(trials).values() if baseline in m.trials), None)
    return StudyEvidence(
        trial_ids=tuple(t.trial_id for t in trials if t.state is not TrialState.FAILED),
        baseline=baseline,
        winner=winner,
        confirmations=_confirmations(trials, winner, baseline),
        cost_ratio=told.saved.value,
        cost_ratio_low=told.saved.low,
        cost_ratio_high=told.saved.high,
        engine_version=study.engine_version or "unknown",
        gpu=study.spec.gpus.type,
        seed=study.spec.tuning.seed,
        time_lapse=study.spec.engine.time_lapse,
        quality=winner.quality,
        confirmed_baseline=None if before is None or was is None else _confirmed(study.spec, trials, before, was),
        confirmed_winner=None if winner is baseline else _confirmed(study.spec, trials, kept, told.fleet),
        fleet_check=told.check,
    )


def _confirmations(trials: Sequence[Trial], *sides: Trial) -> tuple[Trial, ...]:
    configs = [side.config for side in sides]
    return tuple(t for t in trials if t.kind in _CONFIRMATIONS and t.config in configs)


def _shown(kept: Measured) -> Trial | None:
    """Return the trial that stands for a configuration: one that found a capacity."""
    first = (*kept.of(TrialKind.BASELINE), *kept.of(TrialKind.SEARCH))
    return next((t for t in first if t.capacity is not None), next(iter(first), None))


def _confirmed(spec: ServiceSpec, trials: Sequence[Trial], found: Measured, fleet: FleetSize) -> Confirmed | None:
    """Return what all measurements of a configuration say together; None when no level ever passed."""
    passed = [t for t in found.trials if t.capacity is not None and any(level.passed for level in t.levels)]
    if not passed:
        return None
    rps, low_rps, high_rps = capacity(spec, trials, found)
    each = Capacity(rps=rps, low_rps=low_rps, high_rps=high_rps)
    return Confirmed(capacity=each, fleet=fleet, usd_per_million_tokens=token_cost(spec, passed[-1], each, fleet))
