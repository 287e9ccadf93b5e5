"""What a study's trials add up to: a recommendation with its evidence, 'no improvement', or how far the best got."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from controlplane.domain.capacity import FleetSize, fleet_size
from controlplane.domain.service import ServiceSpec
from controlplane.domain.study import (
    Confirmed,
    Evidence,
    FleetCheck,
    Level,
    Recommendation,
    Study,
    Trial,
    TrialKind,
    TrialState,
)
from controlplane.services.studies.trial_plan import token_cost
from tuner.answer.fleet_check import fleet_answer
from tuner.answer.objective import fleet_for, shortfalls
from tuner.answer.winner import Gain, choose, gain, incumbent, pooled_capacity


def conclusion(
    study: Study, trials: Sequence[Trial], *, stopped_because: str, now: datetime, unchecked: str | None = None
) -> Recommendation | str:
    """Return the recommendation, or why there can be none (nothing met the limits, or nothing affordable did).

    `unchecked` says why the winner's fleet was not checked as a whole, if it was not.
    """
    spec = study.spec
    best = incumbent(spec, trials)
    if best is None:
        return f"no configuration meets the limits at any useful rate; {closest(spec, trials)}"
    baseline = next(t for t in trials if t.kind is TrialKind.BASELINE)
    winner = choose(spec, trials)
    if winner is None:
        return _unchanged(study, trials, baseline, f"nothing was better by more than noise; {stopped_because}", now)
    confirmed = [t for t in trials if t.kind is TrialKind.CONFIRM_WINNER]
    again = [t for t in trials if t.kind is TrialKind.CONFIRM_BASELINE]
    found = gain(spec, confirmed, again)
    if found is None or not found.is_improvement:
        why = _not_confirmed(winner, found)
        return _unchanged(study, trials, baseline, why, now, found and _Winner(winner, found, None))
    check = fleet_answer(spec, trials, unchecked=unchecked)
    return _improved(study, trials, baseline, _Winner(winner, found, check), now)


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


class _Winner(NamedTuple):
    """The trial that won, what it gains for certain, and what the fleet check said of it."""

    trial: Trial
    gain: Gain
    check: FleetCheck | None


def _improved(
    study: Study, trials: Sequence[Trial], baseline: Trial, winner: _Winner, now: datetime
) -> Recommendation | str:
    spec, check, gpus = study.spec, winner.check, winner.trial.config.gpus_per_replica
    capacity = pooled_capacity([t for t in trials if t.kind is TrialKind.CONFIRM_WINNER])
    assert capacity is not None  # there is a gain, so every confirmation held a capacity
    fleet = fleet_for(spec, capacity.rps, gpus) if check is None else fleet_size(check.replicas, gpus, spec.gpus)
    if broken := shortfalls(spec, fleet):
        why = f"the winner's confirmed capacity {'; '.join(broken)}"
        return _unchanged(study, trials, baseline, why, now, winner)
    if check is not None and check.held is False:
        why = f"{check.replicas} replicas of trial {winner.trial.number} missed the target together: {check.reason}"
        return _unchanged(study, trials, baseline, why, now, winner)
    return Recommendation(
        study_id=study.study_id,
        service=study.service,
        improvement=True,
        summary=f"{_saved(winner.gain)}: {_money(spec, trials, baseline, fleet)}{_checked(check)}",
        config=winner.trial.config,
        fleet=fleet,
        evidence=_evidence(study, trials, baseline, winner),
        created_at=now,
    )


def _saved(found: Gain) -> str:
    if found.ratio == 0:
        return "the baseline meets the limits at no useful rate, the winner does"
    return f"cost per request {1 - found.ratio:.0%} lower (95 % interval {1 - found.high:.0%} to {1 - found.low:.0%})"


def _money(spec: ServiceSpec, trials: Sequence[Trial], baseline: Trial, fleet: FleetSize) -> str:
    money = f"{fleet.replicas} × {fleet.gpus // fleet.replicas} GPUs, {fleet.usd_per_hour:.2f} USD per hour"
    held = pooled_capacity([t for t in trials if t.kind is TrialKind.CONFIRM_BASELINE])
    if held is None:
        return money
    was = fleet_for(spec, held.rps, baseline.config.gpus_per_replica)
    return f"{money} instead of {was.usd_per_hour:.2f}" if was != fleet else f"{money}, as before, with more headroom"


def _checked(check: FleetCheck | None) -> str:
    if check is None:
        return ""
    if check.held is None:
        return f"; the fleet as a whole was not checked: {check.reason}"
    return f"; together, behind a gateway, they held {check.rate_rps:.3g} requests/s"


def _unchanged(
    study: Study, trials: Sequence[Trial], baseline: Trial, why: str, now: datetime, refuted: _Winner | None = None
) -> Recommendation | str:
    if baseline.fleet is None:
        return f"the baseline meets the limits at no useful rate and {why}; {closest(study.spec, trials)}"
    kept = _Winner(baseline, Gain(1.0, 1.0, 1.0), None) if refuted is None else refuted._replace(trial=baseline)
    return Recommendation(
        study_id=study.study_id,
        service=study.service,
        improvement=False,
        summary=f"no improvement: {why}",
        config=baseline.config,
        fleet=baseline.fleet,
        evidence=_evidence(study, trials, baseline, kept),
        created_at=now,
    )


def _not_confirmed(winner: Trial, found: Gain | None) -> str:
    if found is None:
        return f"trial {winner.number} did not hold the limits when measured again"
    return (
        f"trial {winner.number} was not better for certain when both were measured again "
        f"(cost ratio {found.ratio:.2f}, 95 % interval {found.low:.2f} to {found.high:.2f})"
    )


def _evidence(study: Study, trials: Sequence[Trial], baseline: Trial, winner: _Winner) -> Evidence:
    confirmations = [t for t in trials if t.kind in (TrialKind.CONFIRM_WINNER, TrialKind.CONFIRM_BASELINE)]
    return Evidence(
        trial_ids=tuple(t.trial_id for t in trials if t.state is not TrialState.FAILED),
        baseline=baseline,
        winner=winner.trial,
        confirmations=tuple(confirmations),
        cost_ratio=winner.gain.ratio,
        cost_ratio_low=winner.gain.low,
        cost_ratio_high=winner.gain.high,
        engine_version=study.engine_version or "unknown",
        gpu=study.spec.gpus.type,
        seed=study.spec.tuning.seed,
        time_lapse=study.spec.engine.time_lapse,
        quality=winner.trial.quality,
        confirmed_baseline=_confirmed(study.spec, confirmations, TrialKind.CONFIRM_BASELINE),
        confirmed_winner=None
        if winner.trial is baseline
        else _confirmed(study.spec, confirmations, TrialKind.CONFIRM_WINNER, winner.check),
        fleet_check=winner.check,
    )


def _confirmed(
    spec: ServiceSpec, confirmations: Sequence[Trial], kind: TrialKind, check: FleetCheck | None = None
) -> Confirmed | None:
    """Return what all confirmations of a kind say together; of a fleet that was checked, the number that was."""
    found = [t for t in confirmations if t.kind is kind]
    capacity = pooled_capacity(found)
    if capacity is None:
        return None
    gpus = found[-1].config.gpus_per_replica
    fleet = fleet_for(spec, capacity.rps, gpus) if check is None else fleet_size(check.replicas, gpus, spec.gpus)
    last = next(t for t in reversed(found) if t.capacity is not None)
    return Confirmed(capacity=capacity, fleet=fleet, usd_per_million_tokens=token_cost(spec, last, capacity, fleet))
