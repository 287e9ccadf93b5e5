"""A description that was accepted is rolled out, whatever happens in between; one that was refused changed nothing."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.errors import Conflict, InvalidInput
from controlplane.domain.rollouts.rollout_options import RolloutOptions, StepSpec
from controlplane.domain.schedule import ScheduleSpec
from controlplane.domain.service import ServiceSpec
from controlplane.ports.store import Store
from controlplane.services.fleet.serving import register_service, stop_service
from controlplane.services.rollouts.manage import start_rollout
from controlplane.services.schedules import pause_schedule
from tests.builders_serving import CHAT, a_spec
from tests.fakes.killing import Killed, Killer, Moment
from tests.integration.controller.site import BETTER, Site


def with_flags(**flags: object) -> ServiceSpec:
    spec = a_spec()
    return spec.evolve(engine=spec.engine.evolve(flags={**spec.engine.flags, **flags}))


def register(site: Site, spec: ServiceSpec, store: Store | None = None) -> None:
    register_service(store or site.store, spec, actor="ops", now=site.clock())


def test_a_description_that_cannot_run_is_refused_again_and_again_and_never_saved() -> None:
    site = Site()
    site.serving()
    before = site.store.get_service(CHAT)
    too_large = with_flags(**{"tensor-parallel-size": 2 * a_spec().gpus.count})
    for _ in range(2):
        with pytest.raises(InvalidInput, match="cannot run as described"):
            register(site, too_large)
        assert site.store.get_service(CHAT) == before
    site.passes(2)
    assert not site.store.list_rollouts(CHAT)


def test_what_is_described_while_a_service_is_stopped_is_rolled_out_when_it_serves_again() -> None:
    site = Site()
    site.serving()
    stop_service(site.store, CHAT, stopped=True, actor="ops", now=site.clock())
    register(site, with_flags(**{"max-num-seqs": 77}))
    register(site, with_flags(**{"max-num-seqs": 77}))
    site.passes(2)
    assert not site.store.list_rollouts(CHAT)
    stop_service(site.store, CHAT, stopped=False, actor="ops", now=site.clock())
    site.passes(2)
    assert site.store.get_revision(site.rollout.canary).config.flags["max-num-seqs"] == 77
    assert len(site.store.list_rollouts(CHAT)) == 1


def test_steps_that_may_be_over_before_their_hangs_show_are_refused_unless_they_were_stored_before() -> None:
    site = Site()
    hasty = RolloutOptions(steps=(StepSpec(weight_percent=100, min_s=2),))
    with pytest.raises(InvalidInput, match=r"min_s 2 is shorter than 60 s: .*stall_timeout_s is 60 .*or 0 to wait"):
        register(site, a_spec(rollout=hasty))
    assert not site.store.list_services()
    site.serving()
    found, version = site.store.get_service(CHAT)
    site.store.save_service(found.evolve(spec=a_spec(rollout=hasty)), version)  # by what held it to nothing
    register(site, a_spec(rollout=hasty.evolve(confidence=0.9)))
    assert site.service.spec.rollout.confidence == 0.9
    longer = a_spec(rollout=hasty, gateway=GatewayOptions(stall_timeout_s=90))
    with pytest.raises(InvalidInput, match="min_s 2 is shorter than 90 s"):
        register(site, longer)


def test_a_rollout_of_its_own_steps_is_held_to_the_time_outs_whoever_starts_it() -> None:
    site = Site()
    site.serving()
    hasty = RolloutOptions(steps=(StepSpec(weight_percent=100, min_s=2),))
    with pytest.raises(InvalidInput, match="min_s 2 is shorter than 60 s"):
        start_rollout(site.store, service=CHAT, config=BETTER, replicas=1, options=hasty, actor="ops", now=site.clock())
    assert not site.store.list_rollouts(CHAT)


@pytest.mark.parametrize("moment", list(Moment))
def test_killed_at_any_call_of_registering_what_was_saved_is_rolled_out_once(moment: Moment) -> None:
    changed, at, survived = with_flags(**{"max-num-seqs": 77}), 0, False
    while not survived:
        at += 1
        site = Site()
        site.serving()
        try:
            register(site, changed, Killer(at=at, moment=moment).wrap(site.store))
            survived = True
        except Killed:
            pass
        saved = site.service.spec == changed
        site.passes(3)
        assert len(site.store.list_rollouts(CHAT)) == saved, f"killed {moment} call {at}"
        assert site.service.described is None
    assert at > 4


@pytest.mark.parametrize("moment", list(Moment))
@pytest.mark.parametrize("known", [False, True])
def test_killed_at_any_call_of_registering_a_service_has_the_schedules_it_describes(
    known: bool, moment: Moment
) -> None:
    nightly = ScheduleSpec(name="nightly", cron="0 2 * * *")
    described, at, survived = a_spec(schedules=(nightly,), initial_replicas=1), 0, False
    while not survived:
        at += 1
        site = Site()
        if known:
            site.serving()
        try:
            register(site, described, Killer(at=at, moment=moment).wrap(site.store))
            survived = True
        except Killed:
            pass
        saved = any(row.value.spec == described for row in site.store.list_services())
        assert [row.value.spec for row in site.store.list_schedules(CHAT)] == [nightly] * saved, f"killed at call {at}"
    assert at > 3


def test_a_schedule_paused_by_hand_goes_on_with_the_description_given_again() -> None:
    site = Site()
    spec = a_spec(schedules=(ScheduleSpec(name="nightly", cron="0 2 * * *"),))
    register(site, spec)
    pause_schedule(site.store, CHAT, "nightly", actor="ops", now=site.clock())
    register(site, spec)
    assert [row.value.spec for row in site.store.list_schedules(CHAT)] == list(spec.schedules)


def test_a_model_name_that_is_taken_is_refused_by_the_store() -> None:
    site = Site()
    site.serving()
    with pytest.raises(Conflict, match="is served already: by chat"):
        register(site, a_spec(name="other"))


@pytest.mark.parametrize("cron", ["0 0 30 2 *", "0 0 31 2,4,6 *", "* * 31 9 *"])
def test_a_day_that_never_comes_is_no_schedule(cron: str) -> None:
    with pytest.raises(ValidationError, match="never comes"):
        ScheduleSpec(name="x", cron=cron)


@pytest.mark.parametrize("cron", ["0 0 29 2 *", "0 0 31 * *", "0 2 * * SUN"])
def test_a_day_that_comes_at_times_is_one(cron: str) -> None:
    assert ScheduleSpec(name="x", cron=cron).cron == cron
