"""One window of 1280 px that goes from page to page by their links: what it asks, complains of, and has no room for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from dashboards import markup, theme
from dashboards.app import PAGES
from dashboards.markup import Card
from tests.e2e.dashboard.conftest import PATHS, TIMEOUT_MS, Site
from tests.e2e.dashboard.found import FOUND

pytestmark = pytest.mark.slow

TOO_WIDE = """() => [...document.querySelectorAll('.ft-card, .ft-card .v, html')]
    .filter(each => each.scrollWidth > each.clientWidth + 1).map(each => each.innerText.slice(0, 80))"""


class Walk(NamedTuple):
    hosts: set[str | None]
    complaints: list[str]
    too_wide: dict[str, list[str]]


@pytest.fixture(scope="module")
def window(browser: Browser) -> Iterator[Page]:
    expect.set_options(timeout=TIMEOUT_MS)
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        context.set_default_timeout(TIMEOUT_MS)
        yield context.new_page()


@pytest.fixture(scope="module")
def walk(window: Page, full: Site) -> Walk:
    hosts: set[str | None] = set()
    complaints: list[str] = []
    window.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    window.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    window.on("pageerror", lambda error: complaints.append(str(error)))
    full.open(window, PATHS[0])
    too_wide = {}
    for title, path, _ in PAGES:
        window.get_by_test_id("stSidebarNav").get_by_text(title, exact=True).click()
        for text in FOUND[path]:
            expect(window.get_by_text(text).first).to_be_visible()
        too_wide[path] = window.evaluate(TOO_WIDE)
    return Walk(hosts, complaints, too_wide)


def test_nothing_is_asked_of_another_host(walk: Walk) -> None:
    assert walk.hosts <= {"127.0.0.1", None}


def test_the_console_stays_empty(walk: Walk) -> None:
    assert walk.complaints == []


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_cut(walk: Walk, path: str) -> None:
    assert walk.too_wide[path] == []


def test_a_long_number_in_a_narrow_card_lets_its_unit_go_below(window: Page, walk: Walk) -> None:
    card = markup.cards([Card("Rate", "0.00333", "req/s", "target 5 req/s")])
    window.set_content(f'{theme.CSS}<div style="width: 180px">{card}</div>')
    assert window.evaluate(TOO_WIDE) == []
