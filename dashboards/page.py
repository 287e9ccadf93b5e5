"""What surrounds every view: auto-refresh, one message when the API is down, the choice of the service."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import streamlit as st

from controlplane.domain.schedule import Schedule
from controlplane.domain.serving import Service
from controlplane.domain.studies.study import StudyState
from dashboards import components
from dashboards.client import ApiClient, ApiDown, ApiProblem

T = TypeVar("T")

REFRESH_S = 3

_FLASH = "flash"
REFUSED = "refused"
_REFUSED_S = 20.0
"""So long a page says why an action was refused: time to read it, and a run that is cut short does not lose it."""
_CHOSEN = "chosen_service"
_PAGE = "page"


def guarded(title: str, view: Callable[[ApiClient], None], client: ApiClient) -> Callable[[], None]:
    """Return a page that runs `view` every few seconds and stays readable whatever the API does."""

    @st.fragment(run_every=REFRESH_S)
    def page() -> None:
        _show_flash(title)
        try:
            view(client)
        except ApiDown:
            _down(title, client)
        except ApiProblem as problem:
            _refused(title, problem)

    return page


def perform(action: Callable[[], object], done: str) -> None:
    """Do an action the person asked for, keep its outcome for the next run, and run again at once."""
    st.session_state.pop(REFUSED, None)
    try:
        action()
    except (ApiProblem, ApiDown) as error:
        why = str(error) or "the API does not answer; nothing was changed"
        st.session_state[_FLASH] = (False, why)
        st.session_state[REFUSED] = (why, time.monotonic() + _REFUSED_S)
    else:
        st.session_state[_FLASH] = (True, done)
    st.rerun(scope="fragment")


def choose_service(services: Sequence[Service]) -> Service:
    """Return the service this browser looks at; asks only when there are several. The choice holds on every page."""
    names = [service.name for service in services]
    if len(names) == 1:
        return services[0]
    before = st.session_state.get(_CHOSEN)
    name = st.selectbox("Service", names, index=names.index(before) if before in names else 0, width=320)
    st.session_state[_CHOSEN] = name
    return services[names.index(name)]


def choose_one(label: str, things: Mapping[str, T], text_of: Callable[[str], str], *, key: str) -> T:
    """Return the thing this browser looks at, the first unless another is chosen; asks only when there are several."""
    names = list(things)
    if len(names) == 1:
        return things[names[0]]
    return things[st.selectbox(label, names, format_func=text_of, width=460, key=key)]


def due_replays(client: ApiClient, schedules: Sequence[Schedule]) -> None:
    """Say of replays that are due what they do or wait for."""
    if not any(schedule.replay_run for schedule in schedules):
        return
    busy = [study.study_id for study in client.studies() if study.state is StudyState.RUNNING]
    for schedule in schedules:
        if (text := schedule.replay_progress(busy)) is not None:
            components.line(text)


def no_service(title: str) -> None:
    """Say how to register a first service."""
    components.headline(title)
    components.note(
        "No service yet",
        "Describe one in service.yaml (its schema: fleetune schema) and start the control plane with it:",
        "fleetune up -f service.yaml",
    )


def _show_flash(title: str) -> None:
    if st.session_state.get(_PAGE) != title:
        st.session_state.pop(REFUSED, None)  # it was about what the page before showed
    st.session_state[_PAGE] = title
    if (outcome := st.session_state.pop(_FLASH, None)) is not None:
        good, text = outcome
        st.toast(text, icon="✅" if good else "⚠️", duration="long")
    why, until_s = st.session_state.get(REFUSED, ("", 0.0))
    if time.monotonic() < until_s:
        st.error(why)


def _down(title: str, client: ApiClient) -> None:
    components.headline(title)
    components.note(
        "The control plane does not answer",
        f"Nothing at {client.url}. Serving is not affected: the gateway goes on with its last routing table. "
        "This page tries again every few seconds. To start the control plane:",
        "fleetune up -f service.yaml",
    )


def _refused(title: str, problem: ApiProblem) -> None:
    components.headline(title)
    if problem.status == 401:
        components.note(
            "The API wants a key", str(problem), "FLEETUNE_API_KEY=flt_… streamlit run dashboards/app.py -- URL"
        )
        return
    components.note("The API could not answer", f"{problem}. This page tries again every few seconds.")
