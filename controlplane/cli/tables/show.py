"""How API answers are printed: a table per list, `field  value` lines per thing, or the JSON itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], Any]]

console = Console()


def field(path: str) -> Callable[[Row], Any]:
    """Return a reader of a dotted path; missing parts read as None."""

    def read(row: Row) -> Any:
        value: Any = row
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    return read


def as_json(answer: Any) -> None:
    """Print an answer as JSON, for other programs."""
    print(json.dumps(answer, indent=1))  # noqa: T201 - this is the output


def as_table(rows: Sequence[Row], columns: Sequence[Column], *, empty: str) -> None:
    """Print rows as a table, or `empty` when there are none."""
    if not rows:
        console.print(empty)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, (title, _) in enumerate(columns):
        table.add_column(title, no_wrap=number == 0, overflow="fold")  # the first names the thing: whole, to copy
    for row in rows:
        table.add_row(*(cell(read(row)) for _, read in columns))
    console.print(table)


def as_lines(row: Row, columns: Sequence[Column]) -> None:
    """Print one thing, a field per line."""
    width = max(len(title) for title, _ in columns)
    for title, read in columns:
        console.print(f"[bold]{title:<{width}}[/bold]  {cell(read(row))}", highlight=False)


def cell(value: Any) -> str:
    """Return a value as a person reads it: numbers short, times without fractions, flags as name=value."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return " ".join(f"{name}={cell(part)}" for name, part in value.items()) or "–"
    if isinstance(value, list | tuple):
        return ", ".join(cell(part) for part in value) or "–"
    text = str(value)
    return text[:19].replace("T", " ") if _is_time(text) else text


def _is_time(text: str) -> bool:
    return len(text) > 19 and text[4:5] == "-" and text[10:11] == "T" and text[13:14] == ":"
