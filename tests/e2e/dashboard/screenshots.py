"""Pictures of every page over the seeded store: `python -m tests.e2e.dashboard.screenshots FOLDER [PAGE ...]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Page

from tests.e2e.dashboard.conftest import PATHS, Site, a_browser_before_the_dashboard

WIDTH, HEIGHT, TALLEST = 1400, 900, 3200
SETTLE_MS = 4000  # charts draw themselves after the page is there


def take(folder: Path, paths: Sequence[str]) -> None:
    """Write `<page>.png` for each of the pages, as tall as the page is."""
    folder.mkdir(parents=True, exist_ok=True)
    with a_browser_before_the_dashboard() as (browser, site):
        page = browser.new_page()
        for path in paths:
            _take(page, site, path, folder / f"{path}.png")


def _take(page: Page, site: Site, path: str, target: Path) -> None:
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    site.open(page, path)
    page.wait_for_timeout(SETTLE_MS)
    tall = page.evaluate("() => document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": WIDTH, "height": min(max(HEIGHT, tall), TALLEST)})
    page.wait_for_timeout(SETTLE_MS)
    page.screenshot(path=target)


if __name__ == "__main__":
    take(Path(sys.argv[1]), sys.argv[2:] or PATHS)
