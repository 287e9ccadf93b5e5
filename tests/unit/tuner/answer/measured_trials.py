"""Builders of trials with levels, measured by hand or recorded from studies that were run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from controlplane.domain.base import StudyId, TrialId
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.report import Distribution, LoadTestReport, SloCheck, Validity
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.capacity import Capacity
from controlplane.domain.studies.study import Level, Study, StudyState, Trial, TrialKind, TrialState
from tuner.answer.policy import Spent

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
STUDY = StudyId("chat-1")
RECORDED = Path(__file__).parent / "recorded"
_NONE = Distribution(count=0)


class Recording(NamedTuple):
    """A study as it was measured, and what was answered then."""

    spec: ServiceSpec
    trials: tuple[Trial, ...]
    answered_before: str


def a_level(
    spec: ServiceSpec,
    rate_rps: float,
    *,
    passed: bool,
    misses: Sequence[int] | None = None,
    completed: int | None = None,
    unfinished: int = 0,
    early: bool | None = None,
    replicas: int | None = None,
    reason: str | None = None,
) -> Level:
    """Return a level. Without counts: 60 s, no miss when it passed, five times the allowed ones when not."""
    finished = completed if completed is not None else max(20, round(rate_rps * 60))
    counts = misses or [0 if passed else 1 + round(5 * s.allowed_miss_ratio * finished) for s in spec.slos.latency]
    checks = tuple(
        SloCheck(
            slo=slo,
            met=count <= slo.allowed_miss_ratio * finished,
            measured=None,
            miss_ratio=count / finished,
            miss_ratio_low=0,
            miss_ratio_high=1,
        )
        for slo, count in zip(spec.slos.latency, counts, strict=True)
    )
    report = LoadTestReport(
        target="http://engine",
        rate_rps=rate_rps,
        duration_s=60,
        seed=0,
        requests=finished,
        completed=finished,
        errors=0,
        throughput_rps=rate_rps,
        output_tps=200 * rate_rps,
        prompt_tps=1000 * rate_rps,
        goodput_rps=rate_rps,
        attainment=1 - max(counts) / finished,
        ttft_ms=_NONE,
        tpot_ms=_NONE,
        itl_ms=_NONE,
        e2e_ms=_NONE,
        lag_ms=_NONE,
        slo_checks=checks,
        validity=Validity.VALID,
        stopped_early="decided" if (not passed if early is None else early) else None,
        unfinished=unfinished,
    )
    why = reason or ("meets every limit" if passed else "misses a limit")
    return Level(rate_rps=rate_rps, passed=passed, certain=False, reason=why, report=report, replicas=replicas)


def ladder(spec: ServiceSpec, capacity_rps: float, *, precision: float = 0.05) -> tuple[Level, ...]:
    """Return the two levels that enclose a capacity."""
    low, high = capacity_rps / (1 + precision), capacity_rps * (1 + precision)
    return (a_level(spec, low, passed=True), a_level(spec, high, passed=False))


def a_trial(
    spec: ServiceSpec,
    number: int,
    kind: TrialKind,
    config: EngineConfig,
    capacity_rps: float | None,
    **fields: Any,
) -> Trial:
    """Return a finished trial whose ladder enclosed a capacity; None: one that passed nowhere."""
    levels = () if capacity_rps is None else ladder(spec, capacity_rps)
    capacity = None
    if capacity_rps is not None:
        capacity = Capacity(rps=capacity_rps, low_rps=capacity_rps / 1.05, high_rps=capacity_rps * 1.05)
    given = {
        "trial_id": TrialId(f"{STUDY}-{number}"),
        "study_id": STUDY,
        "number": number,
        "kind": kind,
        "config": config,
        "state": TrialState.INFEASIBLE if capacity_rps is None else TrialState.FEASIBLE,
        "levels": levels,
        "capacity": capacity,
        "started_at": NOW,
        "finished_at": NOW,
    }
    return Trial.model_validate(given | fields)


def a_study(spec: ServiceSpec) -> Study:
    return Study(
        study_id=STUDY,
        service=spec.service,
        spec=spec,
        baseline=spec.baseline,
        state=StudyState.RUNNING,
        created_at=NOW,
        started_at=NOW,
    )


def used(trials: Sequence[Trial]) -> Spent:
    """Return what trials cost in engine starts alone."""
    return Spent(sum(trial.replicas for trial in trials), 0.0, 0.0)


def recording(name: str) -> Recording:
    """Return one of the recorded studies."""
    raw = json.loads((RECORDED / f"{name}.json").read_text())
    spec = ServiceSpec.model_validate(raw["spec"] | {"version": 1})
    trials = tuple(_recorded(spec, number, row) for number, row in enumerate(raw["trials"]))
    return Recording(spec, trials, raw["answered_before"])


def _recorded(spec: ServiceSpec, number: int, row: Mapping[str, Any]) -> Trial:
    found = row["capacity_rps"]
    levels = tuple(
        a_level(
            spec,
            level["rate_rps"],
            passed=level["passed"],
            misses=level["misses"],
            completed=level["completed"],
            unfinished=level["unfinished"],
            early=level["early"],
            reason=level["reason"],
        )
        for level in row["levels"]
    )
    return a_trial(
        spec,
        number,
        TrialKind(row["kind"]),
        EngineConfig(flags=row["flags"]),
        None,
        state=TrialState(row["state"]),
        capacity=None if found is None else Capacity(rps=found[0], low_rps=found[1], high_rps=found[2]),
        levels=levels,
        replicas=row["replicas"],
        attempt=row["attempt"],
        predicted=row["predicted"],
        reason=row["reason"],
    )
