"""Drift through the whole controller: told, tuned for, once in its cool-down."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.operations.drift import DriftOptions, DriftPolicy
from controlplane.domain.studies.capacity import Capacity
from controlplane.domain.studies.study import Level, Study, StudyState
from controlplane.domain.workload import SyntheticWorkload
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


def traffic(site: Site, prompts: int, *, seconds: int = 200) -> None:
    """Two requests a second of equal lengths, all answered."""
    for second in range(seconds):
        for number in range(2):
            site.records.add(a_record(site, f"{site.clock()}-{number}", prompts))
        site.passes(1)
        assert second >= 0


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
