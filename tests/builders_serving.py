"""Builders of what is served and rolled out: sensible values, and only what a test cares about said aloud."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from controlplane.domain.base import RevisionId, RolloutId, ServiceName, StudyId, TrialId
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.hardware import GpuPool
from controlplane.domain.revision import Revision, revision_id
from controlplane.domain.rollouts.rollout import Rollout, RolloutState
from controlplane.domain.rollouts.rollout_options import RolloutOptions, StepSpec
from controlplane.domain.service import EmulatorOptions, EngineOptions, ModelSpec, ServiceSpec
from controlplane.domain.serving import Service
from controlplane.domain.slo import LatencyMetric, LatencySlo, SloSet
from controlplane.domain.studies.capacity import FleetSize
from controlplane.domain.studies.study import (
    Recommendation,
    Study,
    StudyEvidence,
    StudyState,
    Trial,
    TrialKind,
    TrialState,
)
from controlplane.domain.workload import Lengths, SyntheticWorkload

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CHAT = ServiceName("chat")


def after(seconds: float) -> datetime:
    """Return the moment `seconds` after NOW."""
    return NOW + timedelta(seconds=seconds)


def a_spec(**changes: Any) -> ServiceSpec:
    spec = ServiceSpec(
        name="chat",
        model=ModelSpec(name="llama-8b", path="llama-8b"),
        engine=EngineOptions(kind=EngineKind.EMULATOR, emulator=EmulatorOptions(startup_s=0)),
        gpus=GpuPool(type="H200", count=4, price_usd_per_gpu_hour=3.0),
        workload=SyntheticWorkload(prompt_tokens=Lengths(mean=100), output_tokens=Lengths(mean=20)),
        slos=SloSet(latency=(LatencySlo(metric=LatencyMetric.TTFT, percentile=95, limit_ms=500),), target_qps=5),
        rollout=some_options(),
    )
    return spec.evolve(**changes)


def some_options(*weights: int, **changes: Any) -> RolloutOptions:
    """Steps that pass on 50 samples, however fast they come."""
    steps = tuple(StepSpec(weight_percent=weight, min_s=0, max_s=600) for weight in weights or (5, 20, 100))
    return RolloutOptions(steps=steps).evolve(**changes)


def a_revision(config: EngineConfig | None = None, spec: ServiceSpec | None = None) -> Revision:
    spec, config = spec or a_spec(), config or EngineConfig()
    name = revision_id(spec.service, spec.model, spec.engine, config)
    return Revision(
        revision_id=name, service=spec.service, model=spec.model, engine=spec.engine, config=config, created_at=NOW
    )


def a_service(**changes: Any) -> Service:
    spec = changes.pop("spec", None) or a_spec()
    return Service(name=spec.service, spec=spec, updated_at=NOW).evolve(**changes)


def a_rollout(**changes: Any) -> Rollout:
    rollout = Rollout(
        rollout_id=RolloutId("ro-1"),
        service=CHAT,
        canary=RevisionId("rev-canary"),
        stable=RevisionId("rev-stable"),
        canary_replicas=2,
        state=RolloutState.PENDING,
        options=some_options(),
        created_at=NOW,
        updated_at=NOW,
    )
    return rollout.evolve(**changes)


def a_study(study_id: str = "st-1", **changes: Any) -> Study:
    study = Study(
        study_id=StudyId(study_id),
        service=CHAT,
        spec=a_spec(),
        baseline=EngineConfig(),
        state=StudyState.PENDING,
        created_at=NOW,
    )
    return study.evolve(**changes)


def a_trial(study_id: str = "st-1", number: int = 0, **changes: Any) -> Trial:
    trial = Trial(
        trial_id=TrialId(f"{study_id}-{number}"),
        study_id=StudyId(study_id),
        number=number,
        kind=TrialKind.SEARCH,
        config=EngineConfig(),
        state=TrialState.FEASIBLE,
        started_at=NOW,
    )
    return trial.evolve(**changes)


def a_recommendation(study_id: str = "st-1", **changes: Any) -> Recommendation:
    baseline, winner = a_trial(study_id, 0), a_trial(study_id, 1, config=EngineConfig(flags={"max-num-seqs": 64}))
    evidence = StudyEvidence(
        trial_ids=(baseline.trial_id, winner.trial_id),
        baseline=baseline,
        winner=winner,
        cost_ratio=0.5,
        cost_ratio_low=0.4,
        cost_ratio_high=0.6,
        engine_version="0.26.0",
        gpu="H200",
        seed=0,
    )
    found = Recommendation(
        study_id=StudyId(study_id),
        service=CHAT,
        improvement=True,
        summary="half the cost",
        config=winner.config,
        fleet=FleetSize(replicas=2, gpus=2, usd_per_hour=6),
        evidence=evidence,
        created_at=NOW,
    )
    return found.evolve(**changes)


def an_applicable_study(study_id: str = "st-1", **changes: Any) -> Study:
    done = {"state": StudyState.DONE, "apply_when_done": True, "recommendation": a_recommendation(study_id)}
    return a_study(study_id, **(done | changes))


def a_gateway_record(**changes: Any) -> GatewayRecord:
    """Return the record of a good stream; its times are whatever a test says, or none."""
    record = GatewayRecord(
        id="r",
        at=NOW,
        gateway="gw-1",
        service=CHAT,
        model="chat",
        revision=RevisionId("rev"),
        engine_id="e",
        path="/v1/completions",
        stream=True,
        status=200,
    )
    return record.evolve(**changes)
