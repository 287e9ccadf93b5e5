"""Every page in a real browser, without data by its address, by its link while the API is down, and as that comes back.

What the pages show with data is in `test_walk.py`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from controlplane.host.ports import free_port
from dashboards.app import PAGES
from tests.e2e.dashboard.conftest import PATHS, Site, a_dashboard, an_api
from tests.e2e.dashboard.seed import a_chat_spec
from tests.e2e.dashboard.seed_reports import a_report

pytestmark = pytest.mark.slow

_NEXT = {
    "fleet": "fleetune up -f service.yaml",
    "load-report": "fleetune load upload report.json",
    "events": "fleetune up -f service.yaml",
}


def no_traceback(page: Page) -> None:
    assert page.get_by_text("Traceback").count() == 0
    assert page.locator('[data-testid="stException"]').count() == 0


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
        kept = httpx.get(f"{url}/api/v1/load-reports/first-test", trust_env=False, verify=False, timeout=240)
    assert (done.returncode, kept.json()["rate_rps"]) == (0, 2)


@pytest.fixture(scope="module")
def outage(window: BrowserContext, down: Site) -> Iterator[Page]:
    """A page on which one goes about by the links, as one does who wonders what else does not work."""
    opened = window.new_page()
    down.open(opened, PATHS[0])
    yield opened
    opened.close()


@pytest.mark.parametrize(("title", "path"), [(title, path) for title, path, _ in PAGES])
def test_when_the_api_is_down_the_page_says_so_once(outage: Page, down: Site, title: str, path: str) -> None:
    outage.get_by_test_id("stSidebarNav").get_by_text(title, exact=True).click()
    expect(outage.locator("h1")).to_have_text(title)
    expect(outage).to_have_url(f"{down.url}/{'' if path == PATHS[0] else path}")
    expect(outage.get_by_text("The control plane does not answer")).to_have_count(1)
    expect(outage.get_by_text("Serving is not affected")).to_be_visible()
    no_traceback(outage)


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
