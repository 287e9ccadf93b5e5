"""Drift through the whole controller: told, tuned for, once in its cool-down."""

from __future__ import annotations

import math
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from controlplane.domain.base import StudyId
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.operations.drift import DriftOptions, DriftPolicy, Signal
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.studies.capacity import Capacity
from controlplane.domain.studies.study import Level, Study, StudyState
from controlplane.domain.workload import ArrivalProcess, SyntheticWorkload
from controlplane.services.operations.drift import read_watch
from tests.builders_reports import a_load_report
from tests.builders_serving import CHAT, a_study, a_trial
from tests.integration.controller.site import Site

HOUR = 3600


def watching(policy: DriftPolicy, **options: Any) -> Site:
    """A service whose replica was measured with prompts of 100 tokens and outputs of 20."""
    site = Site()
    site.serving(drift=DriftOptions(policy=policy, **options))
    report = a_load_report(rate_rps=5, throughput_rps=5, prompt_tps=500, output_tps=100)
    level = Level(rate_rps=5, passed=True, certain=True, reason="", report=report)
    site.store.save_study(a_study("st-0", state=StudyState.DONE), 0)
    site.store.save_trial(a_trial("st-0", levels=(level,), capacity=Capacity(rps=5, low_rps=4, high_rps=6)), 0)
    return site


def traffic(site: Site, prompts: int, *, seconds: int = 200, **changes: Any) -> None:
    """Two requests a second of equal lengths, all answered."""
    for second in range(seconds):
        for number in range(2):
            site.records.add(a_record(site, f"{site.clock()}-{number}", prompts).evolve(**changes))
        site.passes(1)
        assert second >= 0


def reason(site: Site) -> str:
    [event] = [each for each in site.store.list_events(service=CHAT) if each.action == "drift.found"]
    return event.reason or ""


def a_record(site: Site, name: str, prompts: int) -> GatewayRecord:
    return GatewayRecord(
        id=name,
        at=site.clock() + timedelta(milliseconds=1),
        gateway="gw-1",
        service=CHAT,
        model="llama-8b",
        revision=site.service.stable,
        engine_id="e",
        path="/v1/chat/completions",
        stream=True,
        status=200,
        prompt_tokens=prompts,
        output_tokens=20,
        ttft_ms=90,
        e2e_ms=140,
    )


def told(site: Site) -> list[str]:
    events = site.store.list_events(service=CHAT)
    return [event.action for event in reversed(events) if event.action.startswith("drift.")]


def studies(site: Site) -> list[Study]:
    return [s for s, _ in site.store.list_studies(CHAT) if s.created_by == "drift"]


def test_traffic_as_it_was_measured_is_no_news() -> None:
    site = watching(DriftPolicy.TUNE)
    traffic(site, 100, seconds=400)
    assert told(site) == []


@pytest.mark.parametrize(("policy", "found"), [(DriftPolicy.OFF, []), (DriftPolicy.TELL, ["drift.found"])])
def test_doubled_prompts_are_told_where_that_is_wanted(policy: DriftPolicy, found: list[str]) -> None:
    site = watching(policy)
    traffic(site, 200)
    assert told(site) == found
    assert not studies(site)


@pytest.mark.parametrize("policy", [DriftPolicy.TUNE, DriftPolicy.TUNE_AND_APPLY])
def test_a_study_tunes_for_the_traffic_as_it_is_now(policy: DriftPolicy) -> None:
    site = watching(policy)
    traffic(site, 250)
    assert told(site) == ["drift.found", "drift.study"]
    [study] = studies(site)
    assert study.apply_when_done == (policy is DriftPolicy.TUNE_AND_APPLY)
    workload = study.spec.workload
    assert isinstance(workload, SyntheticWorkload)
    assert (workload.prompt_tokens.mean, workload.output_tokens.mean) == (250, 20)


def test_within_the_cool_down_nothing_more_happens_and_after_it_it_does() -> None:
    site = watching(DriftPolicy.TELL, cool_down_s=HOUR)
    traffic(site, 200, seconds=400)
    site.restart()
    traffic(site, 200, seconds=200)
    assert told(site) == ["drift.found"]
    site.clock.go_on(HOUR)
    traffic(site, 200)
    assert told(site) == ["drift.found", "drift.found"]


def varied(site: Site, times: float, *, requests: int, seed: int) -> None:
    """One request every five seconds, of lengths that are 100 tokens on average, or so many times that."""
    chance = Random(seed)
    for _ in range(requests):
        tokens = max(1, round(times * math.exp(chance.gauss(math.log(100) - 0.32, 0.8))))
        site.records.add(a_record(site, f"{site.clock()}", tokens))
        site.clock.go_on(4)
        site.passes(1)


def test_a_doubling_is_found_before_its_batch_is_whole_whatever_restarts_in_between() -> None:
    site = watching(DriftPolicy.TUNE)
    varied(site, 1, requests=1230, seed=1)
    assert told(site) == []
    site.restart()
    began = site.clock()
    varied(site, 8, requests=95, seed=2)
    assert told(site) == ["drift.found", "drift.study"]
    assert "prompt_tokens are" in reason(site)
    assert site.clock() - began < timedelta(seconds=500)


def test_how_lengths_are_distributed_is_still_known_after_a_promotion() -> None:
    site = watching(DriftPolicy.TELL)
    varied(site, 1, requests=1230, seed=3)
    before = read_watch(site.store, CHAT).value
    site.roll_out(replicas=1)
    site.passes_until(RolloutState.PROMOTED, requests=1000)
    varied(site, 1, requests=120, seed=4)
    after = read_watch(site.store, CHAT).value
    assert after.revision != before.revision
    assert after.quick[Signal.PROMPT].shape.count > before.quick[Signal.PROMPT].shape.count


def test_a_study_under_way_is_not_doubled() -> None:
    site = watching(DriftPolicy.TUNE)
    site.store.save_study(a_study("st-9"), 0)
    traffic(site, 200)
    assert told(site) == ["drift.found", "drift.no_study"]


def test_nothing_is_found_while_a_rollout_is_under_way_or_without_a_measurement() -> None:
    site = watching(DriftPolicy.TELL)
    site.roll_out(replicas=1)
    traffic(site, 200, seconds=100)
    assert told(site) == []
    bare = Site()
    bare.serving(drift=DriftOptions(policy=DriftPolicy.TELL))
    traffic(bare, 200)
    assert told(bare) == []


def test_prefixes_that_are_shared_now_are_found_and_tuned_for() -> None:
    site = watching(DriftPolicy.TUNE)
    traffic(site, 100, prefix_blocks=(1, 2, 3, 4), prefix_block_tokens=16)
    assert "% of the prompts are shared prefixes, measured was 0%" in reason(site)
    [study] = studies(site)
    assert isinstance(study.spec.workload, SyntheticWorkload)
    assert study.spec.workload.shared_prefix_share > 0.9
    assert study.spec.workload.prompt_tokens.mean == 100


def test_requests_in_bursts_are_found_and_tuned_for() -> None:
    site = watching(DriftPolicy.TUNE)
    for minute in range(40):
        for number in range(100):
            site.records.add(a_record(site, f"{minute}-{number}", 100))
        site.passes(61)
    assert "gaps between requests have a squared cv of" in reason(site)
    [study] = studies(site)
    assert study.spec.workload.arrivals.process is ArrivalProcess.GAMMA
    assert study.spec.workload.arrivals.burstiness < 0.5


def test_misses_at_a_load_that_was_measured_to_be_sustained_are_found_and_the_workload_stays() -> None:
    site = watching(DriftPolicy.TUNE)
    traffic(site, 100, ttft_ms=900)
    assert "miss a limit at a load that was measured to be sustained" in reason(site)
    [study] = studies(site)
    assert study.spec.workload == site.service.spec.workload


def test_misses_above_the_measured_load_are_the_autoscalers_business() -> None:
    site = watching(DriftPolicy.TELL)
    for second in range(200):
        for number in range(12):  # measured were 5 requests/s
            site.records.add(a_record(site, f"{second}-{number}", 100).evolve(ttft_ms=900))
        site.passes(1)
    assert "miss" not in "".join(event.reason or "" for event in site.store.list_events(service=CHAT))


def test_an_engine_of_another_version_than_the_measured_one_is_told() -> None:
    site = watching(DriftPolicy.TELL)
    study, version = site.store.get_study(StudyId("st-0"))
    older = study.spec.engine.evolve(version="0.25")
    site.store.save_study(study.evolve(spec=study.spec.evolve(engine=older)), version)
    traffic(site, 100)
    assert reason(site) == "the engine is version 0.26, measured was 0.25"
