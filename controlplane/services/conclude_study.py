"""What a study's trials add up to: a recommendation with its evidence, 'no improvement', or how far the best got."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from controlplane.domain.service import ServiceSpec
from controlplane.domain.study import Evidence, Level, Recommendation, Study, Trial, TrialKind, TrialState
from tuner.objective import fleet_for, shortfalls
from tuner.winner import Gain, choose, gain, incumbent, pooled_capacity


def conclusion(study: Study, trials: Sequence[Trial], *, stopped_because: str, now: datetime) -> Recommendation | str:
    """Return the recommendation, or why there can be none (nothing met the limits, or nothing affordable did)."""
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
        return _unchanged(study, trials, baseline, _not_confirmed(winner, found), now, found)
    return _improved(study, trials, baseline, winner, found, now)


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


def _improved(
    study: Study, trials: Sequence[Trial], baseline: Trial, winner: Trial, found: Gain, now: datetime
) -> Recommendation | str:
    spec = study.spec
    capacity = pooled_capacity([t for t in trials if t.kind is TrialKind.CONFIRM_WINNER])
    assert capacity is not None  # there is a gain, so every confirmation held a capacity
    fleet = fleet_for(spec, capacity.rps, winner.config.gpus_per_replica)
    if broken := shortfalls(spec, fleet):
        return _unchanged(study, trials, baseline, f"the winner's confirmed capacity {'; '.join(broken)}", now, found)
    saved = f"cost per request {1 - found.ratio:.0%} lower (95 % interval {1 - found.high:.0%} to {1 - found.low:.0%})"
    if found.ratio == 0:
        saved = "the baseline meets the limits at no useful rate, the winner does"
    money = f"{fleet.replicas} × {winner.config.gpus_per_replica} GPUs, {fleet.usd_per_hour:.2f} USD per hour"
    held = pooled_capacity([t for t in trials if t.kind is TrialKind.CONFIRM_BASELINE])
    before = ""
    if held is not None:
        was = fleet_for(spec, held.rps, baseline.config.gpus_per_replica)
        before = f" instead of {was.usd_per_hour:.2f}" if was != fleet else ", as before, with more headroom"
    return Recommendation(
        study_id=study.study_id,
        service=study.service,
        improvement=True,
        summary=f"{saved}: {money}{before}",
        config=winner.config,
        fleet=fleet,
        evidence=_evidence(study, trials, baseline, winner, found),
        created_at=now,
    )


def _unchanged(
    study: Study, trials: Sequence[Trial], baseline: Trial, why: str, now: datetime, found: Gain | None = None
) -> Recommendation | str:
    if baseline.fleet is None:
        return f"the baseline meets the limits at no useful rate and {why}; {closest(study.spec, trials)}"
    return Recommendation(
        study_id=study.study_id,
        service=study.service,
        improvement=False,
        summary=f"no improvement: {why}",
        config=baseline.config,
        fleet=baseline.fleet,
        evidence=_evidence(study, trials, baseline, baseline, found or Gain(1.0, 1.0, 1.0)),
        created_at=now,
    )


def _not_confirmed(winner: Trial, found: Gain | None) -> str:
    if found is None:
        return f"trial {winner.number} did not hold the limits when measured again"
    return (
        f"trial {winner.number} was not better for certain when both were measured again "
        f"(cost ratio {found.ratio:.2f}, 95 % interval {found.low:.2f} to {found.high:.2f})"
    )


def _evidence(study: Study, trials: Sequence[Trial], baseline: Trial, winner: Trial, found: Gain) -> Evidence:
    confirmations = [t for t in trials if t.kind in (TrialKind.CONFIRM_WINNER, TrialKind.CONFIRM_BASELINE)]
    return Evidence(
        trial_ids=tuple(t.trial_id for t in trials if t.state is not TrialState.FAILED),
        baseline=baseline,
        winner=winner,
        confirmations=tuple(confirmations),
        cost_ratio=found.ratio,
        cost_ratio_low=found.low,
        cost_ratio_high=found.high,
        engine_version=study.engine_version or "unknown",
        gpu=study.spec.gpus.type,
        seed=study.spec.tuning.seed,
        time_lapse=study.spec.engine.time_lapse,
        quality=winner.quality,
    )
