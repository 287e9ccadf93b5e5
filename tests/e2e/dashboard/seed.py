"""What the dashboard is looked at with: one emulated service mid-rollout after a study, one real one being tuned."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from controlplane.domain.base import EngineId, RevisionId, RolloutId, ServiceName, StudyId, TrialId
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.fleet import Engine, EngineSpec, EngineState
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.event import Event
from controlplane.domain.hardware import GpuPool
from controlplane.domain.models import CANDIDATE, STABLE
from controlplane.domain.replay import ReplayPoint
from controlplane.domain.revision import Revision, revision_id
from controlplane.domain.rollouts.analysis import Analysis, Comparison, Counts, Verdict
from controlplane.domain.rollouts.rollout import Rollout, RolloutState, StepRecord
from controlplane.domain.schedule import ReplaySpec, Schedule, ScheduledAction, ScheduleSpec
from controlplane.domain.service import EmulatorOptions, EngineOptions, ModelSpec, ServiceSpec
from controlplane.domain.serving import Service
from controlplane.domain.slo import LatencyMetric, LatencySlo, SloSet
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
from controlplane.domain.workload import TraceWorkload
from controlplane.ports.store import Store
from controlplane.services.models import NewVersion, move_alias, register_version
from tests.builders_ab import a_judged_test
from tests.e2e.dashboard.seed_reports import a_report, levels, outcome
from tests.e2e.dashboard.seed_traffic import Traffic

CHAT, CODE = ServiceName("chat"), ServiceName("code")
TP2 = {"tensor-parallel-size": 2, "max-model-len": 8192}

# flags beyond the base, kind, the rate at which a replica saturates (None: does not start), the twin's guess
_TRIED: Sequence[tuple[dict[str, Any], TrialKind, float | None, float]] = (
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
_WINNER, _CONFIRMATIONS = 5, (7, 8)


def a_chat_spec() -> ServiceSpec:
    return ServiceSpec(
        name=CHAT,
        model=ModelSpec(name="llama-70b", path="llama-70b"),
        engine=EngineOptions(kind=EngineKind.EMULATOR, flags=TP2, emulator=EmulatorOptions(time_lapse=3)),
        gpus=GpuPool(type="H200", count=8, price_usd_per_gpu_hour=3.5),
        workload=TraceWorkload(trace="azure-llm-2023/conv", rate_rps=6, seed=7),
        slos=SloSet(
            latency=(
                LatencySlo(metric=LatencyMetric.TTFT, percentile=99, limit_ms=1500),
                LatencySlo(metric=LatencyMetric.TPOT, percentile=99, limit_ms=75),
            ),
            max_error_ratio=0.005,
            target_qps=8,
        ),
    )


def fill(store: Store, now: datetime) -> dict[str, Traffic]:
    """Fill the store as of `now`; return the live traffic that goes with it."""
    chat = a_chat_spec()
    code = chat.evolve(
        name=CODE,
        model=ModelSpec(name="llama-8b", path="meta-llama/Llama-3.1-8B"),
        engine=EngineOptions(kind=EngineKind.VLLM, env={"HF_TOKEN": "hf-not-for-the-api"}),
        gpus=GpuPool(type="H200", count=1, price_usd_per_gpu_hour=3.5),
        slos=chat.slos.evolve(target_qps=2.2),
    )
    study = _chat_study(store, chat, now)
    stable = _revision(store, chat, chat.baseline, now)
    canary = _revision(store, chat, EngineConfig(flags={**TP2, **_TRIED[_WINNER][0]}), now)
    code_stable = _revision(store, code, code.baseline, now)
    rollout = _rollout(store, study, stable, canary, now)
    store.save_service(
        Service(
            name=CHAT, spec=chat, stable=stable, stable_replicas=3, rollout=rollout.rollout_id,
            updated_at=now - timedelta(minutes=5),
        ), 0,
    )  # fmt: skip
    store.save_service(Service(name=CODE, spec=code, stable=code_stable, stable_replicas=1, updated_at=now), 0)
    _running_study(store, code, now)
    _schedule(store, now)
    _models(store, chat, now)
    _ab_test(store, now)
    _replays(store, chat, now)
    _reports(store, chat, now)
    _events(store, study, rollout, now)
    return {
        CHAT: Traffic(rate_rps=22, stable=stable, canary=canary, canary_share=0.2),
        CODE: Traffic(rate_rps=6, stable=code_stable, ttft_ms=640, tpot_ms=21, error_ratio=0.01),
    }


def engines(now: datetime, stable: RevisionId, canary: RevisionId) -> list[Engine]:
    """Return a fleet with one engine in every state."""
    started = now - timedelta(minutes=9)
    states = [
        ("chat-stable-1", f"rollout/chat/{stable}", EngineState.READY, (0, 1)),
        ("chat-stable-2", f"rollout/chat/{stable}", EngineState.READY, (2, 3)),
        ("chat-canary-1", f"rollout/chat/{canary}", EngineState.READY, (4,)),
        ("chat-canary-2", f"rollout/chat/{canary}", EngineState.STARTING, (5,)),
        ("trial-9", "trial/st-2/3", EngineState.DRAINING, (6,)),
        ("trial-8", "trial/st-2/2", EngineState.FAILED, ()),
    ]
    return [_engine(*state, started=started) for state in states]


def _engine(name: str, owner: str, state: EngineState, gpus: tuple[int, ...], *, started: datetime) -> Engine:
    failed = state is EngineState.FAILED
    spec = EngineSpec(
        engine_id=EngineId(name), owner=owner, kind=EngineKind.EMULATOR, model="llama-70b", served_name="llama-70b",
        config=EngineConfig(flags=TP2), gpus=2, env={"HF_TOKEN": "hf-not-for-the-api"},
    )  # fmt: skip
    return Engine(
        spec=spec,
        state=state,
        url=None if failed else "http://127.0.0.1:41873",
        gpu_indices=gpus,
        started_at=started,
        ready_at=None if failed or state is EngineState.STARTING else started + timedelta(seconds=74),
        failure=StartFailure.OUT_OF_MEMORY if failed else None,
        failure_detail="No available memory for the cache blocks." if failed else None,
    )


def _revision(store: Store, spec: ServiceSpec, config: EngineConfig, now: datetime) -> RevisionId:
    name = revision_id(spec.service, spec.model, spec.engine, config)
    store.add_revision(
        Revision(
            revision_id=name, service=spec.service, model=spec.model, engine=spec.engine, config=config,
            created_at=now - timedelta(hours=1),
        )
    )  # fmt: skip
    return name


def _chat_study(store: Store, spec: ServiceSpec, now: datetime) -> Study:
    study_id = StudyId("st-1")
    trials = [_trial(spec, study_id, number, now) for number in range(len(_TRIED))]
    baseline, winner = trials[0], trials[_WINNER]
    assert winner.fleet is not None
    assert baseline.fleet is not None
    ratio = winner.fleet.usd_per_hour / baseline.fleet.usd_per_hour
    found = Recommendation(
        study_id=study_id,
        service=CHAT,
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
        study_id=study_id, service=CHAT, spec=spec, baseline=spec.baseline, state=StudyState.DONE,
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
        analyses=(_analysis(Verdict.PASS, 160, at),),
    )  # fmt: skip


def _trial(spec: ServiceSpec, study_id: StudyId, number: int, now: datetime) -> Trial:
    flags, kind, full_rps, predicted = _TRIED[number]
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


def _running_study(store: Store, spec: ServiceSpec, now: datetime) -> None:
    study_id = StudyId("st-2")
    study = Study(
        study_id=study_id, service=CODE, spec=spec, baseline=spec.baseline, state=StudyState.RUNNING,
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


def _rollout(store: Store, study: Study, stable: RevisionId, canary: RevisionId, now: datetime) -> Rollout:
    steps = (
        StepRecord(
            index=0, weight_percent=5, started_at=now - timedelta(minutes=6), finished_at=now - timedelta(minutes=3),
            analysis=_analysis(Verdict.PASS, 160, now - timedelta(minutes=3)),
        ),
        StepRecord(
            index=1, weight_percent=20, started_at=now - timedelta(minutes=3),
            analysis=_analysis(Verdict.INCONCLUSIVE, 420, now),
        ),
    )  # fmt: skip
    rollout = Rollout(
        rollout_id=RolloutId("ro-1"), service=CHAT, canary=canary, stable=stable, canary_replicas=2,
        state=RolloutState.PROGRESSING, options=study.spec.rollout, study_id=study.study_id, step_index=1, steps=steps,
        created_at=now - timedelta(minutes=7), updated_at=now,
    )  # fmt: skip
    store.save_rollout(rollout, 0)
    return rollout


def _analysis(verdict: Verdict, requests: int, at: datetime) -> Analysis:
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


def _models(store: Store, spec: ServiceSpec, now: datetime) -> None:
    """The model that chat serves, and a newer version of it."""
    for source in (spec.model.path, "/models/llama-ft-2"):
        register_version(store, "llama", NewVersion(source, quality={"mmlu": 0.71}), actor="ann", now=now)
    for alias, version in ((STABLE, "1"), (CANDIDATE, "1")):
        move_alias(store, "llama", alias, version, seen=None, actor="ann", now=now)


def _ab_test(store: Store, now: datetime) -> None:
    """One that is over: which of two revisions keeps its users waiting less."""
    test = a_judged_test(now)
    store.save_ab_test(test, 0)


def _schedule(store: Store, now: datetime) -> None:
    spec = ScheduleSpec(name="weekly", cron="0 2 * * SUN", action=ScheduledAction.TUNE_AND_APPLY)
    store.save_schedule(
        Schedule(
            service=CHAT, spec=spec, next_at=spec.next_after(now), last_at=now - timedelta(minutes=50),
            last_study=StudyId("st-1"),
        ), 0,
    )  # fmt: skip
    nightly = ScheduleSpec(
        name="nightly", cron="0 3 * * *", action=ScheduledAction.REPLAY, replay=ReplaySpec(rate_rps=2)
    )
    store.save_schedule(Schedule(service=CHAT, spec=nightly, next_at=nightly.next_after(now)), 0)


def _reports(store: Store, spec: ServiceSpec, now: datetime) -> None:
    for number, rate in enumerate((2.0, 3.0), start=1):
        report = a_report(spec, rate_rps=rate, full_rps=3.6, seconds=180)
        store.add_load_report(f"load-{number}", CHAT, report, now - timedelta(minutes=30 - number))


def _replays(store: Store, spec: ServiceSpec, now: datetime) -> None:
    """Two weeks of nights; the last three are slower."""
    for number in range(1, 15):
        worse = number > 11
        report = a_report(spec, rate_rps=2.0, full_rps=(3.2 if worse else 3.6) + 0.03 * (number % 4), seconds=180)
        point = ReplayPoint(service=CHAT, schedule="nightly", number=number, regressed=worse)
        at = now - timedelta(days=15 - number)
        store.add_load_report(f"replay.{CHAT}.nightly.{number}", CHAT, report, at, replay=point)


def _events(store: Store, study: Study, rollout: Rollout, now: datetime) -> None:
    def add(minutes: float, actor: str, action: str, subject: str, reason: str) -> None:
        at = now - timedelta(minutes=minutes)
        store.add_event(Event(at=at, actor=actor, action=action, subject=subject, service=CHAT, reason=reason))

    of_study, of_rollout = f"study/{study.study_id}", f"rollout/{rollout.rollout_id}"
    add(50, "schedule/weekly", "study.created", of_study, "every Sunday 02:00")
    add(8, "worker/worker-1", "study.done", of_study, study.recommendation.summary if study.recommendation else "")
    add(7, "ana", "rollout.started", of_rollout, "recommended by st-1")
    add(6, "controller", "rollout.step", of_rollout, "5 %")
    add(3, "controller", "rollout.step", of_rollout, "20 %: within all margins")
