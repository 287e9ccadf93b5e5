"""What the dashboard is looked at with: one emulated service mid-rollout after a study, one real one being tuned."""

from __future__ import annotations

from datetime import datetime, timedelta

from controlplane.domain.base import EngineId, RevisionId, RolloutId, ServiceName, StudyId
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.fleet import Engine, EngineSpec, EngineState
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.event import Event
from controlplane.domain.hardware import GpuPool
from controlplane.domain.models import CANDIDATE, STABLE, Origin
from controlplane.domain.replay import ReplayPoint
from controlplane.domain.revision import Revision, revision_id
from controlplane.domain.rollouts.analysis import Verdict
from controlplane.domain.rollouts.rollout import Rollout, RolloutState, StepRecord
from controlplane.domain.schedule import ReplaySpec, Schedule, ScheduledAction, ScheduleSpec
from controlplane.domain.service import EmulatorOptions, EngineOptions, ModelSpec, ServiceSpec
from controlplane.domain.serving import Service
from controlplane.domain.slo import LatencyMetric, LatencySlo, SloSet
from controlplane.domain.studies.study import (
    Study,
)
from controlplane.domain.workload import TraceWorkload
from controlplane.ports.store import Store
from controlplane.services.models import NewVersion, move_alias, register_version
from tests.builders_ab import a_judged_test
from tests.e2e.dashboard.seed_reports import a_report
from tests.e2e.dashboard.seed_studies import TP2, TRIED, WINNER, analysis, chat_study, running_study
from tests.e2e.dashboard.seed_traffic import Traffic

CHAT, CODE = ServiceName("chat"), ServiceName("code")


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
    study = chat_study(store, chat, now)
    stable = _revision(store, chat, chat.baseline, now)
    canary = _revision(store, chat, EngineConfig(flags={**TP2, **TRIED[WINNER][0]}), now)
    code_stable = _revision(store, code, code.baseline, now)
    rollout = _rollout(store, study, stable, canary, now)
    store.save_service(
        Service(
            name=CHAT, spec=chat, stable=stable, stable_replicas=3, rollout=rollout.rollout_id,
            updated_at=now - timedelta(minutes=5),
        ), 0,
    )  # fmt: skip
    store.save_service(Service(name=CODE, spec=code, stable=code_stable, stable_replicas=1, updated_at=now), 0)
    running_study(store, code, now)
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


def _rollout(store: Store, study: Study, stable: RevisionId, canary: RevisionId, now: datetime) -> Rollout:
    steps = (
        StepRecord(
            index=0, weight_percent=0, started_at=now - timedelta(minutes=8), finished_at=now - timedelta(minutes=6),
            analysis=analysis(Verdict.PASS, 120, now - timedelta(minutes=6)),
        ),
        StepRecord(
            index=1, weight_percent=5, started_at=now - timedelta(minutes=6), finished_at=now - timedelta(minutes=3),
            analysis=analysis(Verdict.PASS, 160, now - timedelta(minutes=3)),
        ),
        StepRecord(
            index=2, weight_percent=20, started_at=now - timedelta(minutes=3),
            analysis=analysis(Verdict.INCONCLUSIVE, 420, now),
        ),
    )  # fmt: skip
    rollout = Rollout(
        rollout_id=RolloutId("ro-1"), service=CHAT, canary=canary, stable=stable, canary_replicas=2,
        state=RolloutState.PROGRESSING, options=study.spec.rollout, study_id=study.study_id, step_index=2, steps=steps,
        created_at=now - timedelta(minutes=9), updated_at=now,
    )  # fmt: skip
    store.save_rollout(rollout, 0)
    return rollout


def _models(store: Store, spec: ServiceSpec, now: datetime) -> None:
    """The model that chat serves, and a newer version of it."""
    for source in (spec.model.path, "/models/llama-ft-2"):
        register_version(store, "llama", NewVersion(source, quality={"mmlu": 0.71}), actor="ann", now=now)
    for alias, version in ((STABLE, "1"), (CANDIDATE, "1")):
        move_alias(store, "llama", alias, version, seen=None, actor="ann", now=now)
    saved, version_read = store.get_model("llama")
    problem = "MLflow at http://mlflow:5000 does not answer: nobody listens there"
    store.save_model(saved.evolve(origin=Origin(model="Support Llama", since=now, problem=problem)), version_read)


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
