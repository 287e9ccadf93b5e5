"""The files that gateways append to, one per gateway and hour: what stands in them that was not read before."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from controlplane.domain.door.gateway_files import records_hour
from controlplane.host.files import ends_torn

R = TypeVar("R", bound=BaseModel)
_log = logging.getLogger(__name__)


def new_lines(folder: Path, since: datetime, offsets: dict[str, int]) -> Iterator[tuple[str, bytes]]:
    """Whole lines behind `offsets`, per file that may hold what arrived at or after `since`, by name. Raises OSError.

    A request is written when it is finished, so its file's hour is never before that of its arrival.
    """
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        files = sorted((e.name, e.stat().st_size) for e in entries if _may_hold(e.name, since))
    for name in set(offsets) - {name for name, _ in files}:
        del offsets[name]
    for name, size in files:
        if size < offsets.get(name, 0):  # replaced by hand: read anew
            offsets[name] = 0
        if size > offsets.get(name, 0):
            yield name, _whole_lines(folder / name, offsets.get(name, 0))


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


def _may_hold(name: str, since: datetime) -> bool:
    hour = records_hour(name)
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
