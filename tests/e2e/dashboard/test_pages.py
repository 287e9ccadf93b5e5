"""Every page in a real browser: with data, without, and with an API that is down."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from controlplane.host.ports import free_port
from tests.e2e.dashboard.conftest import PATHS, Site, a_dashboard, a_window, an_api
from tests.e2e.dashboard.found import FOUND
from tests.e2e.dashboard.seed import a_chat_spec
from tests.e2e.dashboard.seed_reports import a_report

pytestmark = pytest.mark.slow

_WITHOUT_FIGURES_OF_ENGINES = ("schedules", "events", "what-if", "models", "ab-tests")
_WITH_FIGURES = [path for path in PATHS if path not in _WITHOUT_FIGURES_OF_ENGINES]

_NEXT = {
    "fleet": "fleetune up -f service.yaml",
    "load-report": "fleetune load upload report.json",
    "events": "fleetune up -f service.yaml",
}


def no_traceback(page: Page) -> None:
    assert page.get_by_text("Traceback").count() == 0
    assert page.locator('[data-testid="stException"]').count() == 0


@pytest.fixture(scope="module")
def window(browser: Browser) -> Iterator[BrowserContext]:
    """One window for all: what a page is made of is fetched and compiled once, as it is for a person."""
    with a_window(browser) as opened:
        yield opened


@pytest.fixture
def page(window: BrowserContext) -> Iterator[Page]:
    opened = window.new_page()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def shown(request: pytest.FixtureRequest, window: BrowserContext, full: Site) -> Iterator[tuple[Page, str]]:
    """A page with data and its path, for all tests that only look at it."""
    opened = window.new_page()
    full.open(opened, request.param)
    yield opened, request.param
    opened.close()


@pytest.mark.parametrize("shown", [*_WITH_FIGURES, *_WITHOUT_FIGURES_OF_ENGINES], indirect=True)
def test_with_data_the_page_shows_it(shown: tuple[Page, str]) -> None:
    page, path = shown
    for text in FOUND[path]:
        expect(page.get_by_text(text).first).to_be_visible()
    no_traceback(page)


@pytest.mark.parametrize("shown", _WITH_FIGURES, indirect=True)
def test_emulated_figures_are_marked_with_their_time_lapse(shown: tuple[Page, str]) -> None:
    expect(shown[0].get_by_text("Time-lapse ×3").first).to_be_visible()


@pytest.mark.parametrize("path", PATHS)
def test_without_data_the_page_says_what_to_do_next(page: Page, empty: Site, path: str) -> None:
    empty.open(page, path)
    expect(page.get_by_text(_NEXT.get(path, "fleetune up -f service.yaml"))).to_be_visible()
    no_traceback(page)


def test_the_command_that_the_empty_load_report_page_names_brings_a_report(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(a_report(a_chat_spec(), rate_rps=2, full_rps=3).model_dump_json())
    with an_api("empty") as url:
        command = ["load", "upload", str(path), "first-test", "--api", url]
        done = subprocess.run([sys.executable, "-m", "controlplane.cli.main", *command], check=False)
        kept = httpx.get(f"{url}/api/v1/load-reports/first-test", trust_env=False, verify=False)
    assert (done.returncode, kept.json()["rate_rps"]) == (0, 2)


@pytest.mark.parametrize("path", PATHS)
def test_when_the_api_is_down_the_page_says_so_once(page: Page, down: Site, path: str) -> None:
    down.open(page, path)
    expect(page.get_by_text("The control plane does not answer")).to_have_count(1)
    expect(page.get_by_text("Serving is not affected")).to_be_visible()
    no_traceback(page)


def test_the_page_recovers_by_itself_when_the_api_comes_back(
    page: Page, tmp_path_factory: pytest.TempPathFactory
) -> None:
    port = free_port()
    with a_dashboard(f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("back")) as site:
        site.open(page, "fleet")
        expect(page.get_by_text("The control plane does not answer")).to_be_visible()
        with an_api("full", port):
            expect(page.get_by_text("chat-canary-1")).to_be_visible()
        expect(page.get_by_text("The control plane does not answer")).to_be_visible()


def test_live_figures_move_without_a_click(page: Page, full: Site) -> None:
    full.open(page, "overview")
    requests = page.locator(".ft-card", has_text="truncated").locator(".v")
    before = requests.inner_text()
    expect(requests).not_to_have_text(before)
