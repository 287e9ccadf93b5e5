"""How API answers are printed: a table per list, `field  value` lines per thing; for programs JSON, YAML or names."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]
Reader = Callable[[Row], Any]

GAP = 2
NARROWEST_TEXT = 16
"""A sentence cut to fewer characters says nothing: its column is left out instead."""

console = Console()
_aside = Console(stderr=True)


class Output(StrEnum):
    """How to print an answer."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


class Column(NamedTuple):
    """One column. `text` may be cut to fit the terminal; `wide` is shown with `-o wide` only, and in a single thing."""

    title: str
    read: Reader
    text: bool = False
    wide: bool = False


def field(path: str) -> Reader:
    """Return a reader of a dotted path; missing parts read as None."""

    def read(row: Row) -> Any:
        value: Any = row
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    return read


def as_json(answer: Any) -> None:
    """Print an answer as JSON, for other programs."""
    _say(json.dumps(answer, indent=1))


def as_yaml(answer: Any) -> None:
    """Print an answer as YAML."""
    import yaml

    _say(yaml.safe_dump(answer, sort_keys=False, allow_unicode=True, width=10**6).rstrip("\n"))


def as_programs_read(output: Output, answer: Any, *, names: Sequence[str]) -> bool:
    """Print an answer as JSON, YAML or its names; say False for what people read, which only its command can print."""
    match output:
        case Output.JSON:
            as_json(answer)
        case Output.YAML:
            as_yaml(answer)
        case Output.NAME:
            for name in names:
                _say(name)
        case Output.TABLE | Output.WIDE:
            return False
    return True


def as_table(
    rows: Sequence[Row], columns: Sequence[Column], *, empty: str, wide: bool = False, on: Console = console
) -> None:
    """Print rows as a table, or `empty` when there are none.

    On a terminal it fits: names are whole, sentences are cut at its edge, and what has no room is left out and named.
    Piped, or `wide`, nothing is cut.
    """
    if not rows:
        on.print(empty, soft_wrap=True)
        return
    shown = [each for each in columns if wide or not each.wide]
    if wide or not on.is_terminal:
        _say(_uncut(rows, shown))
        return
    fitting = that_fit(rows, shown, on.width)
    on.print(table_of(rows, fitting))
    if left_out := [each.title for each in shown if each not in fitting]:
        _aside.print(f"no room for: {', '.join(left_out)}; `-o wide` shows all", style="dim")


def as_lines(row: Row, columns: Sequence[Column]) -> None:
    """Print one thing, a field per line; on a terminal what is longer goes on below itself."""
    grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, GAP, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold", no_wrap=not console.is_terminal)
    for title, read, *_ in columns:
        grid.add_row(title, Text(cell(read(row))))
    if console.is_terminal:
        console.print(grid)
    else:
        _say(_unlimited(grid))


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


def that_fit(rows: Sequence[Row], columns: Sequence[Column], width: int) -> list[Column]:
    """Leave out columns from the right until the rest fits, sentences before names; the first always stays."""
    left = list(columns)
    while len(left) > 1 and sum(_needs(each, rows) + GAP for each in left) - GAP > width:
        texts = [each for each in left[1:] if each.text]
        left.remove(texts[-1] if texts else left[-1])
    return left


def _needs(column: Column, rows: Sequence[Row]) -> int:
    longest = max(cell_len(text) for text in (column.title, *(cell(column.read(row)) for row in rows)))
    return min(longest, NARROWEST_TEXT) if column.text else longest


def table_of(rows: Sequence[Row], columns: Sequence[Column]) -> Table:
    """Return the table: names keep their width, sentences shrink."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, GAP, 0, 0))
    for each in columns:
        least = _needs(each, rows)
        table.add_column(each.title, no_wrap=True, overflow="ellipsis", min_width=least)
    for row in rows:
        table.add_row(*(Text(cell(each.read(row)).replace("\n", " ")) for each in columns))
    return table


def _uncut(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    return _unlimited(table_of(rows, columns))


def _unlimited(table: Table) -> str:
    page = io.StringIO()
    Console(file=page, width=10**6, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines())


def _say(text: str) -> None:
    print(text)  # noqa: T201 - this is the output


def _is_time(text: str) -> bool:
    return len(text) > 19 and text[4:5] == "-" and text[10:11] == "T" and text[13:14] == ":"
