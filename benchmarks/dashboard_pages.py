"""How long a person waits for a page of the dashboard: from the address to its heading, in a real Chromium.

    python -m benchmarks.dashboard_pages --json docs/results/dashboard-pages.json

Over the seeded store of the tests, every page in a browser window that has nothing cached. The very first page after
the start of the dashboard, in which its server loads what pages need, is told apart. Medians; what else runs adds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

from playwright.sync_api import Browser

from tests.e2e.dashboard.conftest import PATHS, Site, a_browser_before_the_dashboard

TARGET_S = 2.0


def measure(repeats: int) -> dict[str, object]:
    """Return seconds to the first page of all, and per page the median of several windows."""
    with a_browser_before_the_dashboard() as (browser, site):
        first_s = seconds(browser, site, PATHS[0])
        pages = {path: statistics.median(seconds(browser, site, path) for _ in range(repeats)) for path in PATHS}
    return {"first_page_s": round(first_s, 2), "pages_s": {path: round(took_s, 2) for path, took_s in pages.items()}}


def seconds(browser: Browser, site: Site, path: str) -> float:
    """Open a page in a new window and return how long its heading took."""
    with browser.new_context() as window:
        page = window.new_page()
        began_s = time.perf_counter()
        site.open(page, path)
        return time.perf_counter() - began_s


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(options.repeats) | {"repeats": options.repeats, "cores": os.cpu_count()}
    text = json.dumps(found, indent=1)
    print(text)
    print(f"target: {TARGET_S:g} s to the first content")
    if options.json is not None:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
