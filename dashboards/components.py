"""The pieces every page is made of, put on the page."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st

from controlplane.domain.engines.engine import EngineKind
from dashboards import markup, theme
from dashboards.markup import NO_BADGE, Card, Column, Html


def cards(items: Sequence[Card]) -> None:
    """Show numbers in a row that wraps."""
    st.html(markup.cards(items))


def headline(title: str, subtitle: str = "", badge: Html = NO_BADGE) -> None:
    """Show what this page is about."""
    st.html(markup.headline(title, subtitle, badge))


def section(title: str) -> None:
    st.html(markup.section(title))


def line(text: str) -> None:
    """Show a quiet sentence."""
    st.html(markup.line(text))


def note(title: str, text: str, *commands: str) -> None:
    """Say that there is nothing to show yet and what to do next."""
    st.html(markup.note(title, text, *commands))


def emulation(kind: EngineKind | None, gpu: str, time_lapse: float) -> None:
    """Say plainly where figures are not from real GPUs or not in wall-clock time."""
    text = markup.emulation(kind, gpu, time_lapse)
    if text:
        st.html(text)


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Show a short table."""
    st.html(markup.table(columns, rows))


def chart(figure: go.Figure, *, key: str, title: str = "", help_: str = "") -> None:
    """Show a figure in a card."""
    with st.container(border=True, key=f"card-{key}", gap=None):
        if title:
            st.html(markup.caption(title, help_))
        st.plotly_chart(figure, width="stretch", theme=None, key=key, config=theme.CHART)


def confirmed(label: str, consequence: str, *, key: str, primary: bool = False) -> str | None:
    """Ask before acting. Returns the reason given once the person confirmed, None otherwise."""
    with st.popover(label, key=f"ask-{key}", type="primary" if primary else "secondary"):
        st.write(consequence)
        reason = st.text_input("Reason, kept in the audit", key=f"reason-{key}", max_chars=500)
        if st.button(f"{label} now", key=f"do-{key}", type="primary"):
            return reason
    return None
