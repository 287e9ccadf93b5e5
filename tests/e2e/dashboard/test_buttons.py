"""Buttons: each asks first, then acts through the API, and what came of it is seen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from tests.e2e.dashboard.conftest import TIMEOUT_MS, Site, a_dashboard, a_window, an_api

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A dashboard of its own: these tests change what it shows."""
    with an_api("full") as api_url, a_dashboard(api_url, tmp_path_factory.mktemp("act")) as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A window of its own for each."""
    with a_window(browser) as window:
        yield window.new_page()


@pytest.fixture
def schedules(page: Page, site: Site) -> Iterator[Page]:
    """The page of schedules; what a test adds there is gone after it, whether it passed or not."""
    seeded = _schedules(site)
    site.open(page, "schedules")
    yield page
    for name, added in _schedules(site).items():
        if name not in seeded:
            path = f"/api/v1/schedules/{added['service']}/{name}"
            httpx.delete(site.api_url + path, trust_env=False, verify=False, timeout=240).raise_for_status()


def ask(site: Site, path: str) -> Any:
    return httpx.get(f"{site.api_url}/api/v1{path}", trust_env=False, verify=False, timeout=240).json()


def confirm(page: Page, label: str, reason: str = "") -> None:
    """Press a button, give a reason, and confirm."""
    _open(page, label)
    if reason:
        page.get_by_label("Reason, kept in the audit").fill(reason)
        page.keyboard.press("Tab")
    page.get_by_role("button", name=f"{label} now").click()


def _open(page: Page, label: str) -> None:
    # A page that has just changed may swallow one click, as it may a person's: click again until it asks. A second one
    # would close what the first opened late, so none is made where it is open, and each is given longer than the last.
    question = page.get_by_role("button", name=f"{label} now")
    for patience_ms in (5_000, 15_000, 45_000, TIMEOUT_MS):
        if not question.is_visible():
            page.get_by_role("button", name=label, exact=True).click()
        with suppress(PlaywrightTimeout):
            question.wait_for(timeout=patience_ms)
            return
    raise AssertionError(f"{label} never asked for confirmation")


def test_a_service_is_rolled_back_from_the_page_of_its_model_and_what_cannot_be_is_said(page: Page, site: Site) -> None:
    site.open(page, "models")
    expect(page.get_by_text("What serves it").first).to_be_visible()
    confirm(page, "Roll chat back")
    expect(page.get_by_text("chat has no earlier revision to go back to").first).to_be_visible()
    assert len(ask(site, "/rollouts?service=chat")["items"]) == 1


def test_a_rollout_is_paused_with_a_reason_and_resumed(page: Page, site: Site) -> None:
    site.open(page, "rollout")
    confirm(page, "Pause rollout", "the reason")
    expect(page.locator(".ft-pill", has_text="paused")).to_be_visible()
    assert ask(site, "/rollouts/ro-1")["state"] == "paused"
    told = ask(site, "/events?subject=rollout/ro-1")["items"][0]
    assert "the reason" in told["reason"]
    confirm(page, "Resume rollout")
    expect(page.locator(".ft-pill", has_text="progressing")).to_be_visible()


def test_nothing_happens_before_the_confirmation(page: Page, site: Site) -> None:
    site.open(page, "rollout")
    _open(page, "Abort rollout")
    assert ask(site, "/rollouts/ro-1")["state"] == "progressing"


def test_a_refused_action_says_why_and_changes_nothing(page: Page, site: Site) -> None:
    site.open(page, "study")
    confirm(page, "Apply recommendation")  # while the seeded rollout is under way
    expect(page.get_by_text("has a rollout under way").first).to_be_visible()
    assert len(ask(site, "/rollouts")["items"]) == 1


def test_a_study_of_another_service_is_aborted(page: Page, site: Site) -> None:
    site.open(page, "study")
    page.get_by_label("Service").click()
    page.get_by_role("option", name="code").click()
    expect(page.get_by_text("Study st-2")).to_be_visible()
    confirm(page, "Abort study")
    expect(page.locator(".ft-pill", has_text="aborted")).to_be_visible()
    assert ask(site, "/studies/st-2")["state"] == "aborted"


def test_a_schedule_is_added_paused_and_deleted(schedules: Page) -> None:
    page = schedules
    page.get_by_label("Name").fill("early")
    page.get_by_label("Five cron fields, UTC").fill("30 1 * * *")
    page.get_by_role("button", name="Add schedule").click()
    expect(page.get_by_text("30 1 * * *").first).to_be_visible()
    expect(page.locator("input[value=early]")).to_have_count(0)  # the old form stands beside the new one for a moment
    expect(page.get_by_label("Name")).to_have_value("")
    _choose(page, "early")
    confirm(page, "Delete early")
    expect(page.get_by_text("30 1 * * *")).to_have_count(0)
    _choose(page, "weekly")
    page.get_by_role("button", name="Pause weekly").click()
    expect(page.locator(".ft-pill", has_text="paused")).to_be_visible()


def test_a_replay_is_scheduled_with_its_rate(schedules: Page, site: Site) -> None:
    page = schedules
    page.get_by_label("Name").fill("early")
    page.get_by_label("Five cron fields, UTC").fill("30 1 * * *")
    page.get_by_label("Does").click()
    page.get_by_role("option", name="replay, compare with the baseline").click()
    page.get_by_role("spinbutton").fill("2.5")
    page.get_by_role("button", name="Add schedule").click()
    expect(page.get_by_text("30 1 * * *").first).to_be_visible()
    assert _schedules(site)["early"]["spec"]["replay"]["rate_rps"] == 2.5


def test_a_broken_cron_is_refused_with_one_message(schedules: Page, site: Site) -> None:
    page = schedules
    before = _schedules(site)
    page.get_by_label("Name").fill("broken")
    page.get_by_label("Five cron fields, UTC").fill("every day")
    page.get_by_role("button", name="Add schedule").click()
    expect(page.get_by_text("five valid cron fields").first).to_be_visible()
    expect(page.get_by_label("Name")).to_have_value("broken")  # to be mended, not typed again
    assert _schedules(site) == before


def test_a_halted_promotion_can_be_rolled_back(page: Page, site: Site) -> None:
    site.open(page, "rollout")
    confirm(page, "Promote rollout")
    expect(page.locator(".ft-pill", has_text="promoting")).to_be_visible()
    confirm(page, "Halt rollout")
    expect(page.locator(".ft-pill", has_text="halted")).to_be_visible()
    confirm(page, "Roll back")
    expect(page.locator("h1", has_text="Rollout chat-r1")).to_be_visible()
    newest = ask(site, "/rollouts?service=chat")["items"][0]
    assert newest["canary"] == ask(site, "/rollouts/ro-1")["stable"]


def _schedules(site: Site) -> dict[str, Any]:
    return {each["spec"]["name"]: each for each in ask(site, "/schedules")["items"]}


def _choose(page: Page, schedule: str) -> None:
    page.get_by_label("Schedule", exact=True).click()
    page.get_by_role("option", name=schedule).click()


def test_an_alias_is_moved_after_a_question(page: Page, site: Site) -> None:
    site.open(page, "models")
    confirm(page, "Move candidate to 2")
    expect(page.get_by_text("candidate points to version 2").first).to_be_visible()
    aliases = ask(site, "/models/llama")["aliases"]
    assert (aliases["candidate"]["version"], aliases["stable"]["version"]) == (2, 1)
