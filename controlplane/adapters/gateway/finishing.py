"""Where in a file of records a moment lies. Requests stand in it in the order in which they finished.

A search of halves looks at some lines of a block at a time, so what it costs hardly grows with the file. Gateways write
what finished within a fifth of a second, clocks are set right now and then: the last `SLACK` are looked at line by
line, so that the answer is the same however far the file has grown meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import BinaryIO

SLACK = timedelta(seconds=5)
BLOCK_BYTES = 1 << 16
_LOOKED_AT = 20  # lines at the beginning of a block: any one of them may be broken, or of a clock that was set


def finished_from(path: Path, end: int, since: datetime) -> int:
    """Return the offset of the first line, of those before `end`, that finished at or after `since`; else `end`.

    Raises OSError; of a file that is gone it is 0.
    """
    with suppress(FileNotFoundError), path.open("rb") as file:
        begin = _before(file, end, since - SLACK)
        return next((at for at, line in _lines(file, begin, end) if _is_from(line, since)), end)
    return 0


def line_from(path: Path, offset: int) -> int:
    """Return where the first line begins at or after an offset. Raises OSError."""
    if offset == 0:
        return 0
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(offset - 1)
        return offset - 1 + len(file.readline())
    return 0


def _before(file: BinaryIO, end: int, since: datetime) -> int:
    """Return the beginning of a block before which everything finished before `since`."""
    low, high = 0, end // BLOCK_BYTES
    while low < high:
        middle = (low + high) // 2
        lines = [line for _, line in islice(_lines(file, middle * BLOCK_BYTES, end), _LOOKED_AT)]
        if not lines or any(_is_from(line, since) for line in lines):
            high = middle
        else:
            low = middle + 1
    return max(0, low - 1) * BLOCK_BYTES


def _lines(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Lines that begin in a range, each with where; the first of a range that begins amid one is left out."""
    file.seek(max(0, begin - 1))
    if begin:
        begin = begin - 1 + len(file.readline())
    while begin < end and (line := file.readline()):
        yield begin, line
        begin += len(line)


def _is_from(line: bytes, since: datetime) -> bool:
    """Say whether a record finished at or after a moment; a broken line did not."""
    try:
        found = json.loads(line)
        at = datetime.fromisoformat(found["at"])
        return at + timedelta(milliseconds=found.get("e2e_ms") or 0.0) >= since
    except (ValueError, KeyError, TypeError):
        return False
