"""What of a batch is done: one line per request, appended and synced before it counts.

A line that is there is done; one that a dying process left in part is taken away and its request made again. So no
request's result is lost or written twice, whatever is killed when; an engine may have answered one twice.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from controlplane.gateway.batches.shelf import private_opener

_BLOCK_BYTES = 1 << 20


class Done(NamedTuple):
    """One finished request: the number of its input line, whether it was answered, and the line to give out."""

    number: int
    ok: bool
    line: bytes

    def written(self) -> bytes:
        return b"%d %d %s\n" % (self.number, self.ok, self.line)


class Journal:
    """The journal of one batch, held by whoever runs it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: FileIO = open(path, "ab+", buffering=0, opener=private_opener)  # noqa: SIM115  # until `close`
        self.lock = Lock()  # results come from several threads
        self.done: set[int] = set()
        self.failed = 0
        self._mend()

    @property
    def completed(self) -> int:
        return len(self.done) - self.failed

    def add(self, done: Done) -> None:
        """Write a result. Raises OSError, and nothing of it is there."""
        if done.number in self.done:
            return
        start, rest = self._file.seek(0, os.SEEK_END), memoryview(done.written())
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(start)
            raise
        self._count(done)

    def entries(self) -> Iterator[Done]:
        """Yield what is done, in the order in which it was finished."""
        with self._path.open("rb") as file:
            for line in file:
                number, ok, said = line.rstrip(b"\n").split(b" ", 2)
                yield Done(int(number), ok == b"1", said)

    def close(self) -> None:
        self._file.close()

    def _mend(self) -> None:
        """Take away a last line that is not whole, then see what is done."""
        self._file.truncate(self._end_of_lines())
        for done in self.entries():
            self._count(done)

    def _end_of_lines(self) -> int:
        """Return where the last whole line ends, looking from the end: a journal may be larger than memory."""
        end = self._file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _BLOCK_BYTES)
            self._file.seek(start)
            found = self._file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
        return 0

    def _count(self, done: Done) -> None:
        self.done.add(done.number)
        self.failed += not done.ok
