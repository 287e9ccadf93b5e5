"""One window of 1280 px that goes from page to page by their links: what it finds, asks, and has no room for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

_WITHOUT_FIGURES_OF_ENGINES = ("schedules", "events", "what-if", "models", "ab-tests")
_WITH_FIGURES = [path for path in PATHS if path not in _WITHOUT_FIGURES_OF_ENGINES]


class Seen(NamedTuple):
    """What one page came to."""

    missing: str
    unmarked: str
    tracebacks: int
    too_wide: list[str]


class Walk(NamedTuple):
    hosts: set[str | None]
    complaints: list[str]
    pages: dict[str, Seen]


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
    pages = {}
    for title, path, _ in (*PAGES[1:], PAGES[0]):
        _go(window, title)
        pages[path] = _look(window, path)
    return Walk(hosts, complaints, pages)


def _go(page: Page, title: str) -> None:
    """Follow a page's link, and wait until nothing of the page before is left to be taken for what is on it."""
    page.locator("h1").first.evaluate("heading => heading.id = 'of-the-page-before'")
    page.get_by_test_id("stSidebarNav").get_by_text(title, exact=True).click()
    expect(page.locator("h1#of-the-page-before")).to_have_count(0)


def _look(page: Page, path: str) -> Seen:
    missing = _not_found(page, FOUND[path])
    unmarked = _not_found(page, ["Time-lapse ×3"] if path in _WITH_FIGURES else [])
    tracebacks = page.get_by_text("Traceback").count() + page.locator('[data-testid="stException"]').count()
    return Seen(missing, unmarked, tracebacks, page.evaluate(TOO_WIDE))


def _not_found(page: Page, texts: Sequence[str]) -> str:
    """Wait for texts and return what is said of the first that does not come: a page of many, which go on."""
    try:
        for text in texts:
            expect(page.get_by_text(text).first).to_be_visible()
    except AssertionError as not_found:
        return str(not_found)
    return ""


@pytest.mark.parametrize("path", PATHS)
def test_with_data_the_page_shows_it(walk: Walk, path: str) -> None:
    assert (walk.pages[path].missing, walk.pages[path].tracebacks) == ("", 0)


@pytest.mark.parametrize("path", _WITH_FIGURES)
def test_emulated_figures_are_marked_with_their_time_lapse(walk: Walk, path: str) -> None:
    assert walk.pages[path].unmarked == ""


def test_nothing_is_asked_of_another_host(walk: Walk) -> None:
    assert walk.hosts <= {"127.0.0.1", None}


def test_the_console_stays_empty(walk: Walk) -> None:
    assert walk.complaints == []


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_cut(walk: Walk, path: str) -> None:
    assert walk.pages[path].too_wide == []


def test_a_long_number_in_a_narrow_card_lets_its_unit_go_below(window: Page, walk: Walk) -> None:
    card = markup.cards([Card("Rate", "0.00333", "req/s", "target 5 req/s")])
    window.set_content(f'{theme.CSS}<div style="width: 180px">{card}</div>')
    assert window.evaluate(TOO_WIDE) == []
