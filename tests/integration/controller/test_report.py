"""The report of a rollout, for somebody who was asleep."""

from __future__ import annotations

import json

import pytest

from controlplane.cli.tables.rollout_html import rollout_page
from controlplane.domain.base import RolloutId, StudyId
from controlplane.domain.errors import NotFound
from controlplane.domain.rollouts.analysis import Verdict
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.rollouts.rollout_report import RolloutReport
from controlplane.services.rollouts.report import rollout_report
from tests.builders_serving import an_applicable_study
from tests.integration.controller.site import Site

BUSY = 400


def test_a_report_tells_the_whole_rollout() -> None:
    site = Site()
    site.serving()
    rollout = site.roll_out()
    site.passes_until(RolloutState.PROMOTED, requests=BUSY)
    report = rollout_report(site.store, rollout.rollout_id)
    assert report.rollout == site.rollout
    assert any("max-num-seqs" in change for change in report.changes)
    assert report.promise is None
    actions = [event.action for event in report.events]
    assert actions[0] == "rollout.pending"
    assert actions[-1] == "rollout.promoted"
    assert actions.count("rollout.verdict") == 3
    assert {look.weights for look in report.looks} >= {(5,), (20,), (100,)}
    assert {look.step for look in report.looks} >= {0, 1, 2}
    judged = [look for look in report.looks if look.intervals]
    assert judged[-1].verdict is Verdict.PASS
    widths = [each.high - each.low for look in judged if look.step == 0 for each in look.intervals[:1]]
    assert widths[-1] < widths[0]
    assert RolloutReport.model_validate(json.loads(report.model_dump_json())) == report


def test_its_page_shows_verdicts_load_and_audit_and_stands_alone() -> None:
    site = Site()
    site.serving()
    rollout = site.roll_out()
    site.slow.add(rollout.canary)
    site.passes_until(RolloutState.ABORTED, requests=BUSY)
    page = rollout_page(rollout_report(site.store, rollout.rollout_id), site.clock())
    told = ("certainly worse", "runs", "requests/s a replica", "max-num-seqs", "rollout.aborted", "P99 TTFT: ")
    for said in (*told, "SLO misses over time"):
        assert said in page
    assert "Share at each gateway" in page
    assert page.count("<script") > 2
    assert "http-equiv" not in page
    assert "<script src=" not in page


def test_what_its_study_promised_stands_beside_it() -> None:
    site = Site()
    site.serving()
    study = an_applicable_study()
    site.store.save_study(study, 0)
    site.passes(2)
    report = rollout_report(site.store, site.rollout.rollout_id)
    assert report.promise is not None
    assert report.promise.study_id == StudyId("st-1")


def test_a_rollout_nobody_knows_has_no_report() -> None:
    with pytest.raises(NotFound):
        rollout_report(Site().store, RolloutId("chat-r9"))


def test_a_controller_that_starts_anew_goes_on_where_the_looks_ended() -> None:
    site = Site()
    site.serving()
    rollout = site.roll_out()
    site.passes(3, requests=50)
    before = rollout_report(site.store, rollout.rollout_id).looks
    site.restart()
    site.passes_until(RolloutState.PROMOTED, requests=BUSY)
    after = rollout_report(site.store, rollout.rollout_id).looks
    assert before
    assert after[: len(before)] == before
    assert after[-1].asked_percent == 100
