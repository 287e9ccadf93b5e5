"""The dashboard. `streamlit run dashboards/app.py -- http://127.0.0.1:8700`; the URL may also be FLEETUNE_API_URL."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from html import escape

import streamlit as st

from dashboards import theme
from dashboards.client import Address, ApiClient
from dashboards.page import guarded
from dashboards.run import KEY_VARIABLE, URL_VARIABLE
from dashboards.views import (
    ab_tests,
    events,
    fleet,
    load_report,
    models,
    operations,
    overview,
    replays,
    rollout,
    schedules,
    study,
    what_if,
)

DEFAULT_URL = "http://127.0.0.1:8700"

View = Callable[[ApiClient], None]

PAGES: tuple[tuple[str, str, View], ...] = (
    ("SLO overview", "overview", overview.show),
    ("Operations", "operations", operations.show),
    ("Fleet", "fleet", fleet.show),
    ("Study", "study", study.show),
    ("Rollout", "rollout", rollout.show),
    ("Models", "models", models.show),
    ("A/B tests", "ab-tests", ab_tests.show),
    ("Load report", "load-report", load_report.show),
    ("Replays", "replays", replays.show),
    ("What if", "what-if", what_if.show),
    ("Schedules", "schedules", schedules.show),
    ("Events", "events", events.show),
)


def main() -> None:
    """Serve one run of one page."""
    st.set_page_config(page_title="Fleetune", page_icon="🎚️", layout="wide")
    st.html(theme.CSS)
    st.logo(theme.LOGO, size="large")
    client = _client(_address())
    st.sidebar.html(f'<div class="ft-sub">API {escape(client.url)}</div>')
    pages = [
        st.Page(guarded(title, view, client), title=title, url_path=path, default=index == 0)
        for index, (title, path, view) in enumerate(PAGES)
    ]
    st.navigation(pages).run()


def _address() -> Address:
    given = sys.argv[1] if len(sys.argv) > 1 else os.environ.get(URL_VARIABLE, DEFAULT_URL)
    return Address(given, os.environ.get(KEY_VARIABLE))


@st.cache_resource
def _client(address: Address) -> ApiClient:
    return ApiClient(address)


if __name__ == "__main__":
    main()
