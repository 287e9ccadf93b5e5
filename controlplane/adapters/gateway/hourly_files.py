"""The files that gateways append to, one per gateway and hour: what stands in them that was not read before."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from controlplane.domain.door.gateway_files import records_hour
from controlplane.host.files import ends_torn

R = TypeVar("R", bound=BaseModel)
_log = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20
"""Read at once: a thousand records, whose values take some ten megabytes."""
LINE_BYTES = 1 << 16
"""Longer than most lines."""


def new_lines(folder: Path, since: datetime, offsets: dict[str, int]) -> Iterator[tuple[str, bytes]]:
    """Whole lines behind `offsets`, per file that may hold what arrived at or after `since`, by name. Raises OSError.

    A request is written when it is finished, so its file's hour is never before that of its arrival.
    """
    files = listed(folder, since)
    for name in set(offsets) - {name for name, _ in files}:
        del offsets[name]
    for name, size in files:
        if size < offsets.get(name, 0):  # replaced by hand: read anew
            offsets[name] = 0
        if size > offsets.get(name, 0):
            yield name, _whole_lines(folder / name, offsets.get(name, 0))


def listed(folder: Path, since: datetime) -> list[tuple[str, int]]:
    """Return files that may hold what arrived at or after `since`, by name, and their bytes. Raises OSError.

    One whose retention ends meanwhile is left out.
    """
    found = []
    if folder.is_dir():
        with os.scandir(folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if _may_hold(entry.name, since):
                        found.append((entry.name, entry.stat().st_size))
    return sorted(found)


def pieces(path: Path, begin: int, end: int) -> Iterator[tuple[bytes, int]]:
    """Whole lines of a file between two offsets, some at a time, each with where it ends. Raises OSError.

    A line that is still being written at the end is left; of a file that is gone there is nothing.
    """
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(begin)
        rest = b""
        while begin + len(rest) < end and (read := file.read(min(PIECE_BYTES, end - begin - len(rest)))):
            rest += read
            lines, rest = rest[: (cut := rest.rfind(b"\n") + 1)], rest[cut:]
            if lines:
                begin += len(lines)
                yield lines, begin


def all_lines_end(path: Path, size: int) -> int:
    """Return the offset behind the last whole line within the first `size` bytes. Raises OSError."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        while size > 0:
            begin = max(0, size - LINE_BYTES)
            file.seek(begin)
            if (at := file.read(size - begin).rfind(b"\n")) >= 0:
                return begin + at + 1
            size = begin
    return 0


def parsed(lines: bytes, kind: type[R], *, where: str) -> Iterator[R]:
    """Read whole lines; of what a killed gateway left of its last one it is said that it is skipped `where`."""
    for line in filter(None, lines.splitlines()):
        try:
            yield kind.model_validate_json(line)
        except ValidationError:
            _log.warning("a broken line of %d bytes %s is skipped", len(line), where)


def append(path: Path, values: Iterable[BaseModel]) -> None:
    """Write values as lines of their own: one that a killed writer left open swallows none of them. Raises OSError."""
    with path.open("ab+") as file:
        file.write(
            (b"\n" if ends_torn(file) else b"") + b"".join(each.model_dump_json().encode() + b"\n" for each in values)
        )


def hour_of(at: datetime) -> datetime:
    """Return the beginning of a moment's hour, UTC."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


@lru_cache(maxsize=4096)
def _hour(name: str) -> datetime | None:
    """Folders of days of hours are listed many times a second, and their names do not change."""
    return records_hour(name)


def _may_hold(name: str, since: datetime) -> bool:
    hour = _hour(name)
    return hour is not None and hour >= hour_of(since)


def _whole_lines(path: Path, offset: int) -> bytes:
    """Return what stands behind `offset`, up to the last line end: the rest is still being written."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            text = file.read()
    except FileNotFoundError:  # its retention was over between listing and opening
        return b""
    return text[: text.rfind(b"\n") + 1]
