"""The markup every page is made of, the report's too. Text from outside is escaped here and nowhere else. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from controlplane.domain.engines.engine import EngineConfig, EngineKind


class Card(NamedTuple):
    """One big readable number."""

    label: str
    value: str
    unit: str = ""
    sub: str = ""
    colour: str | None = None


class Html(str):
    """Markup made here; every other string is escaped when shown."""


NO_BADGE = Html("")


class Column(NamedTuple):
    title: str
    numeric: bool = False


def cards(items: Sequence[Card]) -> Html:
    """Return numbers in a row that wraps."""
    return Html(f'<div class="ft-grid">{"".join(_card(item) for item in items)}</div>')


def pill(text: str, colour: str) -> Html:
    """Return a state in its colour."""
    return Html(f'<span class="ft-pill" style="color:{colour}">{escape(text)}</span>')


def two_lines(main: str, small: str) -> Html:
    """Return a cell with a smaller second line."""
    return Html(f'{_markup(main)}<div class="ft-flags">{_markup(small)}</div>')


def small_lines(lines: Sequence[str]) -> Html:
    """Return a cell of small lines that wrap where they must."""
    return Html(f'<div class="ft-flags wrap">{"<br>".join(_markup(line) for line in lines)}</div>')


def flag_lines(config: EngineConfig) -> Html:
    """Return flags one per line."""
    lines = [escape(argument) for argument in config.to_args()] or ["vLLM's defaults"]
    return Html(f'<div class="ft-flags">{"<br>".join(lines)}</div>')


def headline(title: str, subtitle: str = "", badge: Html = NO_BADGE) -> Html:
    """Return what a page is about."""
    return Html(
        f'<div style="display:flex;gap:12px;align-items:center;margin-bottom:2px"><h1>{escape(title)}</h1>{badge}</div>'
        f'<div class="ft-sub">{escape(subtitle)}</div>'
    )


def section(title: str) -> Html:
    return Html(f'<h3 style="margin:0;padding:0.9rem 0 0 0;font-size:1.08rem">{escape(title)}</h3>')


def line(text: str) -> Html:
    """Return a quiet sentence."""
    return Html(f'<div class="ft-sub" style="padding:4px 2px">{escape(text)}</div>')


def note(title: str, text: str, *commands: str) -> Html:
    """Return that there is nothing to show yet and what to do next."""
    code = "".join(f"<p><code>{escape(command)}</code></p>" for command in commands)
    return Html(f'<div class="ft-note"><b>{escape(title)}</b><p>{escape(text)}</p>{code}</div>')


def caption(title: str, help_: str = "") -> Html:
    """Return the heading of a chart."""
    small = f' <span class="ft-sub" style="font-size:0.84rem">{escape(help_)}</span>' if help_ else ""
    return Html(f'<div style="font-weight:600">{escape(title)}{small}</div>')


def emulation(kind: EngineKind | None, gpu: str, time_lapse: float) -> Html:
    """Return plainly where figures are not from real GPUs or not in wall-clock time; empty where they are."""
    parts = []
    if kind is EngineKind.EMULATOR:
        parts.append(f"<b>Emulated {escape(gpu)}</b>: engines are simulated, no GPU was used.")
    if time_lapse != 1:
        parts.append(f"<b>Time-lapse ×{time_lapse:g}</b>: latencies and rates are in emulated time.")
    return Html(f'<div class="ft-emulated">{" ".join(parts)}</div>' if parts else "")


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Html:
    """Return a short table."""
    titled = any(column.title for column in columns)
    head = "".join(f'<th class="{"n" if c.numeric else ""}">{escape(c.title)}</th>' for c in columns if titled)
    body = "".join(f"<tr>{_cells(columns, row)}</tr>" for row in rows)
    return Html(
        '<div class="ft-card" style="padding:6px 8px;overflow-x:auto"><table class="ft">'
        f"{f'<thead><tr>{head}</tr></thead>' if titled else ''}<tbody>{body}</tbody></table></div>"
    )


def _card(card: Card) -> str:
    dot = f'<span class="ft-dot" style="background:{card.colour}"></span>' if card.colour else ""
    return (
        f'<div class="ft-card"><div class="l">{dot}{escape(card.label)}</div>'
        f'<div class="v"><b>{escape(card.value)}</b><wbr><span class="u">{escape(card.unit)}</span></div>'
        f'<div class="s">{escape(card.sub) or "&nbsp;"}</div></div>'
    )


def _cells(columns: Sequence[Column], row: Sequence[str]) -> str:
    return "".join(
        f'<td class="{"n" if column.numeric else ""}">{_markup(cell)}</td>'
        for column, cell in zip(columns, row, strict=True)
    )


def _markup(text: str) -> str:
    return text if isinstance(text, Html) else escape(text)
