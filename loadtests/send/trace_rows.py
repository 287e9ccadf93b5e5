"""Rows of trace files: CSV or JSON lines, columns by name, broken rows counted instead of lost."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from controlplane.domain.errors import InvalidInput

OWN_FORMAT = "fleetune-trace/1"

TimeUnit = Literal["s", "ms", "us", "iso"]
_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6}


@dataclass(frozen=True)
class Columns:
    """Which column holds what. `unit` is that of `arrival`: numbers in s, ms, us, or ISO 8601 moments."""

    arrival: str
    prompt: str
    output: str
    unit: TimeUnit = "s"
    session: str | None = None
    tenant: str | None = None
    blocks: str | None = None
    block_tokens: float = 0

    @property
    def required(self) -> tuple[str, str, str]:
        return (self.arrival, self.prompt, self.output)


KNOWN_COLUMNS = {
    "Azure 2023": Columns("TIMESTAMP", "ContextTokens", "GeneratedTokens", unit="iso"),
    "BurstGPT": Columns("Timestamp", "Request tokens", "Response tokens", session="Session ID", tenant="Model"),
    "Mooncake": Columns("timestamp", "input_length", "output_length", unit="ms", blocks="hash_ids", block_tokens=512),
    "Fleetune": Columns("t", "p", "o", session="s", tenant="k", blocks="b"),
}
"""Formats recognised by their column names (each trace's own documentation)."""


class Row(NamedTuple):
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    session: str | None
    tenant: str | None
    blocks: tuple[int, ...] | None


@dataclass
class Parsed:
    """What a file held: good rows in file order, how many were broken, and the first of those in words."""

    rows: list[Row] = field(default_factory=list)
    broken: int = 0
    first_broken: str = ""
    block_tokens: float = 0


class _Broken(Exception):
    """Why one row cannot be used."""


def parse_rows(text: str, *, source: str, columns: Columns | None) -> Parsed:
    """Parse a whole file. Raises InvalidInput when it is neither CSV nor JSON lines with known columns."""
    text = _with_plain_line_ends(text)
    lines = text.split("\n")
    is_json = next((line.lstrip().startswith("{") for line in lines if line.strip()), False)
    header, records = _json_records(lines) if is_json else _csv_records(text, source)
    names = set(header)
    if not names:
        raise InvalidInput(f"trace {source} is empty", allowed="CSV with a header, or JSON lines")
    chosen = columns or _recognise(names, source)
    missing = [name for name in chosen.required if name not in names]
    if missing:
        raise InvalidInput(f"trace {source} has no column {', '.join(missing)}", allowed=", ".join(sorted(names)))
    parsed = Parsed(block_tokens=chosen.block_tokens or float(header.get("block_tokens") or 0))
    for number, record in records:
        _take(parsed, number, record, chosen)
    return parsed


def _recognise(names: set[str], source: str) -> Columns:
    for columns in KNOWN_COLUMNS.values():
        if names >= set(columns.required):
            return columns
    known = "; ".join(f"{name}: {', '.join(columns.required)}" for name, columns in KNOWN_COLUMNS.items())
    raise InvalidInput(
        f"trace {source} has unknown columns",
        why=f"found {', '.join(sorted(names))}",
        allowed=f"{known}; or fleetune trace export {source} NEW.jsonl --columns arrival,prompt,output",
    )


_Records = Iterator[tuple[int, Mapping[str, Any] | None]]


def _csv_records(text: str, source: str) -> tuple[dict[str, Any], _Records]:
    reader = csv.DictReader(io.StringIO(text))
    usual = csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a prompt as text may be any length
    try:
        header = {name: None for name in reader.fieldnames or ()}
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise InvalidInput(f"trace {source} is no CSV", why=f"line {reader.line_num}: {error}") from error
    finally:
        csv.field_size_limit(usual)
    return header, iter(rows)


def _with_plain_line_ends(text: str) -> str:
    """Return the text with LF alone at line ends. U+2028 and its like end no line: they may stand within a text."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _json_records(lines: list[str]) -> tuple[dict[str, Any], _Records]:
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    header = next((record for _, line in numbered if (record := _as_object(line)) is not None), {})
    if header.get("format") == OWN_FORMAT:
        numbered = numbered[1:]
        header = dict.fromkeys(("t", "p", "o")) | header
    return header, ((number, _as_object(line)) for number, line in numbered)


def _as_object(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _take(parsed: Parsed, number: int, record: Mapping[str, Any] | None, columns: Columns) -> None:
    try:
        parsed.rows.append(_row(record, columns))
    except _Broken as reason:
        parsed.broken += 1
        parsed.first_broken = parsed.first_broken or f"line {number}: {reason}"


def _row(record: Mapping[str, Any] | None, columns: Columns) -> Row:
    if record is None:
        raise _Broken("not a JSON object")
    return Row(
        _moment(record.get(columns.arrival), columns),
        _count(record.get(columns.prompt), columns.prompt),
        _count(record.get(columns.output), columns.output),
        _label(record, columns.session),
        _label(record, columns.tenant),
        _block_ids(record, columns.blocks),
    )


def _moment(value: Any, columns: Columns) -> float:
    try:
        seconds = _iso(value) if columns.unit == "iso" else float(value) / _PER_SECOND[columns.unit]
    except (TypeError, ValueError) as error:
        raise _Broken(f"{columns.arrival} is {value!r}, not {_WANTED[columns.unit]}{_other_unit(value)}") from error
    if not math.isfinite(seconds):
        raise _Broken(f"{columns.arrival} is {value!r}, not finite")
    return seconds


_WANTED = {
    "iso": "an ISO 8601 moment",
    "s": "a number of seconds",
    "ms": "a number of milliseconds",
    "us": "a number of microseconds",
}


def _other_unit(value: Any) -> str:
    """Name the unit under which a refused value would be a moment."""
    for unit, reads in (("s", float), ("iso", _iso)):
        try:
            reads(value)
        except (TypeError, ValueError):
            continue
        return f"; --columns arrival,prompt,output,{unit} reads it"
    return ""


def _iso(value: Any) -> float:
    moment = datetime.fromisoformat(str(value))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _count(value: Any, name: str) -> int:
    try:
        count = float(value)
    except (TypeError, ValueError) as error:
        raise _Broken(f"{name} is {value!r}, not a number") from error
    if not (math.isfinite(count) and count >= 1 and count == int(count)):
        raise _Broken(f"{name} is {value!r}, not a whole number from 1 on")
    return int(count)


def _label(record: Mapping[str, Any], name: str | None) -> str | None:
    value = record.get(name) if name else None
    return None if value in (None, "") else str(value)


def _block_ids(record: Mapping[str, Any], name: str | None) -> tuple[int, ...] | None:
    value = record.get(name) if name else None
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(block, int) for block in value):
        raise _Broken(f"{name} is not a list of whole numbers")
    return tuple(value)
