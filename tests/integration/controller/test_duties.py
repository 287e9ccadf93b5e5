"""The controller's other duties, and what people do with services and schedules."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controlplane.domain.base import ServiceName, StudyId
from controlplane.domain.door.identity import Grant
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.fleet import EngineState
from controlplane.domain.errors import Conflict, InvalidInput, NotFound
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.schedule import ScheduledAction, ScheduleSpec
from controlplane.domain.service import ModelSpec, ServiceSpec
from controlplane.domain.studies.study import StudyState
from controlplane.services.controller.jobs import fire_due
from controlplane.services.fleet.serving import register_service, scale_service, service_status, stop_service
from controlplane.services.keys import create_key, list_keys
from controlplane.services.rollouts.manage import abort_rollout, promote_rollout, resume_rollout, start_rollout
from controlplane.services.schedules import pause_schedule, resume_schedule, trigger_schedule
from tests.builders_serving import CHAT, a_spec, a_study, an_applicable_study
from tests.integration.controller.site import BETTER, Site, create_a_study

WEEKLY = ScheduleSpec(name="weekly", cron="0 2 * * SUN", action=ScheduledAction.TUNE_AND_APPLY)


def register(site: Site, spec: ServiceSpec) -> None:
    register_service(site.store, spec, actor="ops", now=site.clock())


def test_an_engine_of_a_live_study_is_never_touched_and_a_forsaken_one_goes() -> None:
    site = Site()
    site.serving()
    site.store.save_study(a_study(), 0)
    claimed = site.store.claim_study("w1", now=site.clock(), lease_s=30)
    assert claimed is not None
    engine = site.trial_engine(claimed.value.study_id)
    for _ in range(5):
        site.store.heartbeat(claimed.value.study_id, "w1", now=site.clock())
        site.passes(20)
    assert site.fleet.observe(engine.spec.engine_id).state is EngineState.READY
    site.passes(40)
    with pytest.raises(NotFound):
        site.fleet.observe(engine.spec.engine_id)


@pytest.mark.parametrize("study", [a_study(state=StudyState.ABORTED), None])
def test_an_engine_of_a_study_that_is_over_or_unknown_goes_at_once(study: object) -> None:
    site = Site()
    site.serving()
    if study is not None:
        site.store.save_study(a_study(state=StudyState.ABORTED), 0)
    site.trial_engine(StudyId("st-1"))
    site.passes(3)
    assert site.fleet.free_gpus() == site.gpus - 1


def test_a_missed_firing_fires_once_and_late() -> None:
    site = Site()
    site.serving(schedules=(WEEKLY,))
    site.clock.go_on(timedelta(days=30).total_seconds())
    site.passes(5)
    studies = [row.value for row in site.store.list_studies(CHAT)]
    assert [(study.created_by, study.apply_when_done) for study in studies] == [("schedule/weekly", True)]
    schedule = site.store.list_schedules(CHAT)[0].value
    assert schedule.last_study == studies[0].study_id
    assert schedule.next_at > site.clock()


def test_a_firing_whose_study_was_created_before_a_crash_is_not_repeated() -> None:
    site = Site()
    site.serving(schedules=(WEEKLY,))
    site.clock.go_on(timedelta(days=8).total_seconds())
    create_a_study(site.store, service=CHAT, actor="schedule/weekly", now=site.clock(), apply_when_done=True)
    site.passes(2)
    assert len(site.store.list_studies(CHAT)) == 1


def test_a_paused_schedule_skips_and_a_triggered_one_fires_now() -> None:
    site = Site()
    site.serving(schedules=(WEEKLY,))
    pause_schedule(site.store, CHAT, "weekly", actor="ops", now=site.clock())
    with pytest.raises(Conflict, match="paused"):
        trigger_schedule(site.store, CHAT, "weekly", actor="ops", now=site.clock())
    site.clock.go_on(timedelta(days=30).total_seconds())
    site.passes(2)
    resume_schedule(site.store, CHAT, "weekly", actor="ops", now=site.clock())
    site.passes(2)
    assert not site.store.list_studies(CHAT)
    trigger_schedule(site.store, CHAT, "weekly", actor="ops", now=site.clock())
    site.passes(2)
    assert len(site.store.list_studies(CHAT)) == 1


def test_a_schedule_that_cannot_create_its_study_says_so_and_goes_on() -> None:
    site = Site()
    site.serving(schedules=(WEEKLY,))
    trigger_schedule(site.store, CHAT, "weekly", actor="ops", now=site.clock())

    def refuse(*_: object, **__: object) -> object:
        raise Conflict("a study of chat is pending already")

    fire_due(site.store, create_study=refuse, now=site.clock())  # type: ignore[arg-type]
    assert site.store.list_events()[0].reason == "a study of chat is pending already"
    assert site.store.list_schedules(CHAT)[0].value.next_at > site.clock()


def test_a_finished_study_is_applied_once_and_only_when_no_rollout_runs() -> None:
    site = Site()
    site.serving()
    other = site.roll_out(EngineConfig(flags={"max-num-seqs": 8}))
    site.store.save_study(an_applicable_study(), 0)
    site.passes(5)
    assert len(site.store.list_rollouts(CHAT)) == 1
    abort_rollout(site.store, other.rollout_id, actor="ops", now=site.clock())
    site.passes(5)
    assert [row.value.study_id for row in site.store.list_rollouts(CHAT)] == ["st-1", None]
    applied = site.store.get_study(StudyId("st-1")).value.recommendation
    assert applied is not None
    assert applied.applied_revision == site.rollout.canary


def test_a_recommendation_that_cannot_fit_is_given_up_with_its_reason() -> None:
    site = Site()
    site.serving(gpus=a_spec().gpus.evolve(count=1))
    site.store.save_study(an_applicable_study(), 0)
    site.passes(3)
    assert not site.store.list_rollouts(CHAT)
    assert "2 GPUs are needed" in site.store.list_events(subject="study/st-1")[0].reason
    assert not site.store.studies_to_apply()


def test_promises_change_in_place_and_flags_by_a_rollout_that_keeps_what_tuning_found() -> None:
    site = Site()
    site.serving(engine=a_spec().engine.evolve(flags={"max-model-len": 4096, "seed": 1}))
    rollout = site.roll_out(EngineConfig(flags={"max-model-len": 4096, "seed": 1, "max-num-seqs": 64}))
    site.passes_until(RolloutState.PROGRESSING)
    spec = site.service.spec
    register(site, spec.evolve(slos=spec.slos.evolve(target_qps=9)))
    assert site.service.spec.slos.target_qps == 9
    changed = site.service.spec.evolve(engine=spec.engine.evolve(flags={"max-model-len": 8192}))
    with pytest.raises(Conflict, match="rollout"):
        register(site, changed)
    promote_rollout(site.store, rollout.rollout_id, actor="ops", now=site.clock())
    site.passes_until(RolloutState.PROMOTED)
    site.passes(1)
    register(site, changed)
    assert dict(site.store.get_revision(site.rollout.canary).config.flags) == {
        "max-model-len": 8192,
        "max-num-seqs": 64,
    }


def test_the_name_clients_use_neither_changes_nor_is_taken() -> None:
    site = Site()
    site.serving()
    with pytest.raises(InvalidInput, match="clients ask for 'llama-8b'"):
        register(site, a_spec(model=ModelSpec(name="other", path="llama-8b")))
    with pytest.raises(Conflict, match="is served already"):
        register(site, a_spec(name="chat-2"))


def test_registering_the_same_again_changes_nothing() -> None:
    site = Site()
    site.serving(schedules=(WEEKLY,))
    before = site.store.get_service(CHAT)
    register(site, before.value.spec)
    assert site.store.get_service(CHAT) == before


def test_scaling_and_stopping_are_made_true_and_refused_during_a_rollout() -> None:
    site = Site()
    site.serving()
    scale_service(site.store, CHAT, replicas=3, actor="ops", now=site.clock())
    site.passes(2)
    assert len(site.engines()) == 3
    scale_service(site.store, CHAT, replicas=1, actor="ops", now=site.clock())
    site.passes(3)
    assert len(site.fleet.list()) == 1
    stop_service(site.store, CHAT, stopped=True, actor="ops", now=site.clock())
    site.passes(3)
    assert (site.weights, list(site.fleet.list())) == ({}, [])
    stop_service(site.store, CHAT, stopped=False, actor="ops", now=site.clock())
    site.roll_out()
    with pytest.raises(Conflict, match="cannot be scaled now"):
        scale_service(site.store, CHAT, replicas=2, actor="ops", now=site.clock())


def test_a_rollout_is_refused_when_it_makes_no_sense() -> None:
    site = Site()
    site.serving()
    now = site.clock()
    with pytest.raises(NotFound):
        start_rollout(site.store, service=ServiceName("nobody"), config=BETTER, replicas=1, actor="ops", now=now)
    with pytest.raises(Conflict, match="stable already"):
        site.roll_out(EngineConfig())
    with pytest.raises(InvalidInput, match="5 GPUs are needed"):
        site.roll_out(replicas=5)
    rollout = site.roll_out()
    with pytest.raises(Conflict, match=rollout.rollout_id):
        site.roll_out(EngineConfig(flags={"max-num-seqs": 8}))
    with pytest.raises(Conflict, match="no step has begun"):
        promote_rollout(site.store, rollout.rollout_id, actor="ops", now=now)
    with pytest.raises(Conflict, match="paused or halted"):
        resume_rollout(site.store, rollout.rollout_id, actor="ops", now=now)


def test_a_promotion_that_began_cannot_be_aborted() -> None:
    site = Site()
    site.serving()
    rollout = site.roll_out()
    site.passes_until(RolloutState.PROGRESSING)
    promote_rollout(site.store, rollout.rollout_id, actor="ops", now=site.clock())
    with pytest.raises(Conflict, match="halted, never aborted"):
        abort_rollout(site.store, rollout.rollout_id, actor="ops", now=site.clock())


def test_the_status_says_what_is_wanted_and_what_is_there() -> None:
    site = Site()
    stable = site.serving(initial_replicas=2).stable
    site.fleet.crash(site.engines(stable)[0].spec.engine_id)
    status = service_status(site.store, site.fleet, CHAT, now=site.clock())
    assert (status.desired_replicas, status.ready_replicas, status.weights_percent) == (
        {stable: 2},
        {stable: 1},
        {stable: 100},
    )


def test_a_gateway_that_is_down_keeps_engines_alive_until_it_was_told() -> None:
    site = Site()
    stable = site.serving().stable
    rollout = site.roll_out()
    site.passes_until(RolloutState.PROGRESSING)
    site.router.down = {"gw-1"}
    abort_rollout(site.store, rollout.rollout_id, actor="ops", now=site.clock())
    site.passes(5)
    assert site.engines(rollout.canary)
    site.router.down = set()
    site.passes(3)
    assert site.weights == {stable: 100}
    assert not site.engines(rollout.canary)


def test_what_gateways_saw_of_keys_is_kept_once_a_minute() -> None:
    site = Site()
    create_key(site.store, "app", Grant(), actor="x", now=site.clock())
    used = site.clock()
    site.router.uses["app"] = used
    site.passes(1)
    assert list_keys(site.store)[0].last_used_at == used
    site.router.uses["app"] = used + timedelta(minutes=2)
    site.passes(30)
    assert list_keys(site.store)[0].last_used_at == used
    site.passes(40)
    assert list_keys(site.store)[0].last_used_at == used + timedelta(minutes=2)


def test_a_gateways_trouble_is_an_event_when_it_comes_and_when_it_goes() -> None:
    site = Site()
    site.router.trouble = {"gw-1": ["Redis does not answer"]}
    site.passes(20)
    site.router.trouble = {}
    site.passes(20)
    told = [(event.action, event.subject, event.reason) for event in site.store.list_events(limit=10)]
    assert told == [
        ("gateway.recovered", "gateway/gw-1", "over: Redis does not answer"),
        ("gateway.trouble", "gateway/gw-1", "Redis does not answer"),
    ]
