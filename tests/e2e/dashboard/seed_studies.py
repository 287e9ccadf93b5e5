"""The studies of the seeded site: one that is done and applied, one that runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from controlplane.domain.base import RolloutId, StudyId, TrialId
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.rollouts.analysis import Analysis, Comparison, Counts, Verdict
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import (
    EarlierCapacity,
    LiveOutcome,
    Recommendation,
    Study,
    StudyEvidence,
    StudyState,
    Trial,
    TrialKind,
    TrialState,
    WarmStart,
)
from controlplane.ports.store import Store
from tests.e2e.dashboard.seed_reports import levels, outcome

TP2 = {"tensor-parallel-size": 2, "max-model-len": 8192}

# flags beyond the base, kind, the rate at which a replica saturates (None: does not start), the twin's guess
TRIED: Sequence[tuple[dict[str, Any], TrialKind, float | None, float]] = (
    ({}, TrialKind.BASELINE, 3.4, 3.1),
    ({"quantization": "fp8"}, TrialKind.SEARCH, 4.6, 4.2),
    ({"quantization": "fp8", "tensor-parallel-size": 1}, TrialKind.SEARCH, 2.9, 2.4),
    ({"quantization": "fp8", "tensor-parallel-size": 1, "kv-cache-dtype": "fp8"}, TrialKind.SEARCH, 4.0, 3.7),
    ({"tensor-parallel-size": 1}, TrialKind.SEARCH, None, 0.0),
    (
        {"quantization": "fp8", "tensor-parallel-size": 1, "kv-cache-dtype": "fp8", "max-num-seqs": 256},
        TrialKind.SEARCH,
        4.4,
        4.3,
    ),
    ({"quantization": "fp8", "max-num-batched-tokens": 4096}, TrialKind.SEARCH, 4.8, 4.4),
    ({}, TrialKind.CONFIRM_BASELINE, 3.5, 3.1),
    (
        {"quantization": "fp8", "tensor-parallel-size": 1, "kv-cache-dtype": "fp8", "max-num-seqs": 256},
        TrialKind.CONFIRM_WINNER,
        4.4,
        4.3,
    ),
)
WINNER, _CONFIRMATIONS = 5, (7, 8)


def chat_study(store: Store, spec: ServiceSpec, now: datetime) -> Study:
    study_id = StudyId("st-1")
    trials = [_trial(spec, study_id, number, now) for number in range(len(TRIED))]
    baseline, winner = trials[0], trials[WINNER]
    assert winner.fleet is not None
    assert baseline.fleet is not None
    ratio = winner.fleet.usd_per_hour / baseline.fleet.usd_per_hour
    found = Recommendation(
        study_id=study_id,
        service=spec.service,
        improvement=True,
        summary=f"fp8 weights and cache on one GPU carry the target for {1 - ratio:.0%} less than the baseline.",
        config=winner.config,
        fleet=winner.fleet,
        evidence=StudyEvidence(
            trial_ids=tuple(trial.trial_id for trial in trials),
            baseline=baseline,
            winner=winner,
            confirmations=tuple(trials[number] for number in _CONFIRMATIONS),
            cost_ratio=ratio,
            cost_ratio_low=ratio * 0.92,
            cost_ratio_high=ratio * 1.1,
            engine_version="0.26.0",
            gpu="H200 (emulated)",
            seed=7,
            time_lapse=3,
        ),
        created_at=now - timedelta(minutes=8),
    )
    study = Study(
        study_id=study_id, service=spec.service, spec=spec, baseline=spec.baseline, state=StudyState.DONE,
        created_at=now - timedelta(minutes=50), started_at=now - timedelta(minutes=49),
        finished_at=now - timedelta(minutes=8), created_by="schedule/weekly", recommendation=found,
        engine_version="0.26.0", gpu_seconds=3100, engine_starts=9, warm_start=_warm_start(),
        outcomes=(_an_outcome(now),),
    )  # fmt: skip
    store.save_study(study, 0)
    for trial in trials:
        store.save_trial(trial, 0)
    return study


def _warm_start() -> WarmStart:
    """What a study before this one measured: the baseline, a configuration tried here too, and one that was not."""
    known: tuple[tuple[dict[str, Any], float], ...] = (
        ({}, 2.6),
        ({"quantization": "fp8"}, 3.9),
        ({"tensor-parallel-size": 4}, 5.2),
    )
    capacities = tuple(EarlierCapacity(config=EngineConfig(flags={**TP2, **flags}), rps=rps) for flags, rps in known)
    return WarmStart(study_id=StudyId("st-0"), capacities=capacities)


def _an_outcome(now: datetime) -> LiveOutcome:
    at = now - timedelta(minutes=7)
    return LiveOutcome(
        rollout_id=RolloutId("ro-0"), promoted=False, reason="aborted by ana: deploy freeze", at=at,
        analyses=(analysis(Verdict.PASS, 160, at),),
    )  # fmt: skip


def _trial(spec: ServiceSpec, study_id: StudyId, number: int, now: datetime) -> Trial:
    flags, kind, full_rps, predicted = TRIED[number]
    config = EngineConfig(flags={**TP2, **flags})
    started = now - timedelta(minutes=48 - 4 * number)
    trial = Trial(
        trial_id=TrialId(f"{study_id}-{number}"), study_id=study_id, number=number, kind=kind, config=config,
        state=TrialState.FEASIBLE, startup_s=74, started_at=started, finished_at=started + timedelta(minutes=4),
        predicted={"capacity_rps": predicted} if predicted else {}, worker="worker-1",
    )  # fmt: skip
    if full_rps is None:
        reason = "bf16 weights of 70B do not fit on one H200"
        return trial.evolve(state=TrialState.INFEASIBLE, start_failure=StartFailure.OUT_OF_MEMORY, reason=reason)
    rates = [full_rps * share for share in (0.35, 0.55, 0.7, 0.8, 0.88, 0.97)]
    return trial.evolve(**outcome(spec, config, levels(spec, full_rps, rates)))


def running_study(store: Store, spec: ServiceSpec, now: datetime) -> None:
    study_id = StudyId("st-2")
    study = Study(
        study_id=study_id, service=spec.service, spec=spec, baseline=spec.baseline, state=StudyState.RUNNING,
        created_at=now - timedelta(minutes=6), started_at=now - timedelta(minutes=6), created_by="ana",
        engine_version="0.26.0", gpu_seconds=410, engine_starts=2,
    )  # fmt: skip
    store.save_study(study, 0)
    first = _trial(spec, study_id, 0, now).evolve(config=EngineConfig())
    running = Trial(
        trial_id=TrialId(f"{study_id}-1"), study_id=study_id, number=1, kind=TrialKind.SEARCH,
        config=EngineConfig(flags={"quantization": "fp8"}), state=TrialState.RUNNING, started_at=now, worker="worker-1",
    )  # fmt: skip
    for trial in (first, running):
        store.save_trial(trial, 0)


def analysis(verdict: Verdict, requests: int, at: datetime) -> Analysis:
    canary = Counts(requests=requests, slo_misses=requests // 90, errors=0)
    stable = Counts(requests=requests * 5, slo_misses=requests * 5 // 60, errors=1)
    high = 0.021 if verdict is Verdict.PASS else 0.064
    misses = Comparison(
        name="slo_miss_ratio", canary_ratio=0.011, stable_ratio=0.0165, difference=-0.0055, low=-0.031, high=high,
        margin=0.05,
    )  # fmt: skip
    refusals = Comparison(
        name="refusal_ratio", canary_ratio=0, stable_ratio=0, difference=0, low=-0.004, high=0.012, margin=0.05
    )
    errors = Comparison(
        name="error_ratio", canary_ratio=0, stable_ratio=0.0004, difference=-0.0004, low=-0.009, high=0.012, margin=0.02
    )
    reason = "within all margins" if verdict is Verdict.PASS else "the interval of SLO misses still reaches its margin"
    return Analysis(
        verdict=verdict, reason=reason, at=at, canary=canary, stable=stable, comparisons=(misses, errors, refusals)
    )
