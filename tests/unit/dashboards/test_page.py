"""What surrounds a view: why an action was refused can be read, also when the run that says it was cut short."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import streamlit
from streamlit.testing.v1 import AppTest

from dashboards import page

WHY = "chat has a rollout under way"


def script() -> None:
    import streamlit as st

    from dashboards.client import Address, ApiClient, ApiProblem
    from dashboards.page import guarded, perform

    def refused() -> None:
        raise ApiProblem("chat has a rollout under way", status=409)

    def view(client: ApiClient) -> None:
        if st.button("Apply"):
            perform(refused, "applied")
        if st.button("Abort"):
            perform(lambda: None, "aborted")

    guarded(st.session_state.get("title", "Study"), view, ApiClient(Address(url="http://nowhere")))()


@pytest.fixture(autouse=True)
def _runs_whole_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A click in AppTest runs the page, not its fragment: the run after it is the page's, too."""
    rerun = streamlit.rerun

    def whole(*, scope: str) -> None:
        assert scope == "fragment"
        rerun(scope="app")

    monkeypatch.setattr(streamlit, "rerun", whole)


def refused() -> AppTest:
    app = AppTest.from_function(script).run()
    app.button[0].click().run()
    return app


def errors(app: AppTest) -> list[str]:
    return [each.value for each in app.error]


def abort(app: AppTest) -> None:
    app.button[1].click()


def turn_over(app: AppTest) -> None:
    app.session_state["title"] = "Fleet"


def let_time_pass(app: AppTest) -> None:
    app.session_state[page.REFUSED] = (WHY, 0.0)


def test_why_an_action_was_refused_outlasts_the_run_that_says_it() -> None:
    app = refused()
    assert errors(app) == [WHY]
    assert errors(app.run()) == [WHY]


@pytest.mark.parametrize("leave", [abort, turn_over, let_time_pass])
def test_it_goes_with_the_next_action_with_another_page_and_in_time(leave: Callable[[AppTest], None]) -> None:
    app = refused()
    leave(app)
    assert errors(app.run()) == []
