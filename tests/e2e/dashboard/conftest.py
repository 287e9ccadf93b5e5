"""Real processes: the API over a seeded store, the dashboard, and Chromium looking at it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from controlplane.host.ports import free_port
from dashboards.app import PAGES
from dashboards.run import dashboard_command

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
PATHS = [path for _, path, _ in PAGES]
ROOT = Path(__file__).parents[3]
TIMEOUT_MS = 240_000
DEAD_API = "http://127.0.0.1:9"  # the discard port: nothing answers


class Site:
    """One running dashboard."""

    def __init__(self, url: str, api_url: str) -> None:
        self.url = url
        self.api_url = api_url

    def open(self, page: Page, path: str) -> None:
        """Go to one page and wait until its heading is there."""
        page.goto(f"{self.url}/{'' if path == PATHS[0] else path}")
        expect(page.locator("h1").first).to_be_visible()


@contextmanager
def a_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS), timeout=TIMEOUT_MS)
        yield chromium
        chromium.close()


@contextmanager
def a_browser_before_the_dashboard() -> Iterator[tuple[Browser, Site]]:
    """Run the dashboard over the seeded store, and what looks at it."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        an_api("full") as api_url,
        a_dashboard(api_url, Path(scratch)) as site,
        a_browser() as chromium,
    ):
        yield chromium, site


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with a_browser() as chromium:
        yield chromium


@contextmanager
def a_window(browser: Browser) -> Iterator[BrowserContext]:
    """Open a window as a person's who was never here."""
    expect.set_options(timeout=TIMEOUT_MS)
    with browser.new_context(viewport={"width": 1400, "height": 1000}) as context:
        context.set_default_timeout(TIMEOUT_MS)
        yield context


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


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with an_api("full") as api_url, a_dashboard(api_url, tmp_path_factory.mktemp("full")) as site:
        yield site


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with an_api("empty") as api_url, a_dashboard(api_url, tmp_path_factory.mktemp("empty")) as site:
        yield site


@pytest.fixture(scope="session")
def down(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with a_dashboard(DEAD_API, tmp_path_factory.mktemp("down")) as site:
        yield site


@contextmanager
def an_api(state: str, port: int = 0) -> Iterator[str]:
    """Run the API server of `api_server` in a process of its own; yield its URL."""
    command = [sys.executable, "-m", "tests.e2e.dashboard.api_server", state, str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:  # else what fails before the API waits for its end for ever
            process.terminate()


@contextmanager
def a_dashboard(api_url: str, cwd: Path) -> Iterator[Site]:
    """Run the dashboard as the supervisor would."""
    port = free_port()
    log = (cwd / "dashboard.log").open("w")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLEETUNE_")}
    with (
        subprocess.Popen(dashboard_command(port, api_url), cwd=cwd, stdout=log, stderr=log, env=environment) as process,
        log,
    ):
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_until_up(f"{url}/_stcore/health", process)
            yield Site(url, api_url)
        finally:
            process.terminate()


def _wait_until_up(url: str, process: subprocess.Popen[bytes]) -> None:
    with httpx.Client(trust_env=False, verify=False) as client:
        while process.poll() is None:  # however long a busy machine takes
            try:
                if client.get(url).is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
    raise TimeoutError(f"{url} does not answer: the dashboard ended with {process.returncode}")
