"""Running batches: their lines go through the gateway's own pipeline, in the class batch, a few at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from controlplane.domain.door.batch import (
    MOST_ERRORS,
    MOST_LINES,
    Batch,
    BatchStatus,
    LineError,
    StoredFile,
)
from controlplane.domain.door.batch_lines import Line, failure_line, read_line, result_line
from controlplane.gateway.batches.journal import Done, Journal
from controlplane.gateway.batches.ledger import UPLOAD_WITHIN_S
from controlplane.gateway.batches.queue import LOOK_EVERY_S, BatchQueue, Turn
from controlplane.gateway.batches.shelf import Shelf, lines_of
from controlplane.gateway.batches.troubles import Troubles

_log = logging.getLogger(__name__)

TRIED_AGAIN = frozenset({429, 502, 503, 504})
"""What passes: no place, no replica, a limit of this minute."""
BROKEN = frozenset({502, 504})
MOST_TRIES = 3
"""A line at which engines break is given up: it may be what breaks them."""
LONGEST_WAIT_S = 60.0

_PRUNE_EVERY_S = 600.0


class Reply(NamedTuple):
    """What the gateway answered to a line."""

    status: int
    body: bytes
    request_id: str
    retry_after_s: float = 1.0


Send = Callable[[Batch, bytes], Awaitable[Reply]]
"""Sends a body to a batch's endpoint in its owner's name. Raises OSError."""


@dataclass
class Runner:
    """Runs whatever waits. `wall_clock` gives aware UTC; `may` says whether a batch's owner still may ask.

    `has_room` says whether the disk has a place for answers: while it has none nobody is asked for any.
    """

    shelf: Shelf
    send: Send
    may: Callable[[Batch], bool]
    has_room: Callable[[], bool]
    wall_clock: Callable[[], datetime]
    at_once: int
    retention_s: float
    queue: BatchQueue
    troubles: Troubles
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _running: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        """Run what the queue gives until cancelled: lines under way are then given up, and made by who is next."""
        places = asyncio.Semaphore(self.at_once)
        self._running.add(asyncio.create_task(self._prune()))
        try:
            while True:
                await self._take_one(places)
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _take_one(self, places: asyncio.Semaphore) -> None:
        try:
            turn = await self.queue.next()
        except OSError as error:
            self.troubles.note("queue", f"batches wait: {error.strerror}")
            await asyncio.sleep(LOOK_EVERY_S)
            return
        self.troubles.note("queue", None)
        task = asyncio.create_task(self._one(turn, places))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _prune(self) -> None:
        """Throw old things away now and then; a disk or a bucket that fails is asked again the next time."""
        while True:
            try:
                before, now_s = self._now() - self.retention_s, time.monotonic()
                await asyncio.to_thread(self.shelf.prune, before, now_s=now_s, lies_s=UPLOAD_WITHIN_S)
                self.troubles.note("prune", None)
            except OSError as error:
                self.troubles.note("prune", f"old files and batches stay: {error.strerror}")
            await asyncio.sleep(_PRUNE_EVERY_S)

    async def _one(self, turn: Turn, places: asyncio.Semaphore) -> None:
        ended = False
        try:
            batch = self.shelf.batch(turn.batch_id)
            if batch is not None and not batch.has_ended:
                await self._through(batch, places)
            batch = self.shelf.batch(turn.batch_id)
            ended = batch is None or batch.has_ended
            self.troubles.note("storage", None)
        except OSError as error:
            self.troubles.note("storage", f"batches are put off: {error.strerror}")
        except Exception as error:  # noqa: BLE001  # whatever it is, its words may be of a line
            _log.error("batch %s is put off: %s", turn.batch_id, type(error).__name__)
        finally:
            await turn.leave(ended)

    async def _through(self, batch: Batch, places: asyncio.Semaphore) -> None:
        checked = await asyncio.to_thread(self._checked, batch)
        if isinstance(checked, list):
            ended = {"status": BatchStatus.FAILED, "ended_at": int(self._now()), "errors": tuple(checked)}
            await asyncio.to_thread(self.shelf.put_batch, batch.evolve(**ended))
            return self.shelf.clear(batch.batch_id)
        began = batch.began_at or int(self._now())
        batch = batch.evolve(status=BatchStatus.IN_PROGRESS, began_at=began, total=checked)
        async with self._journal(batch) as journal:
            await asyncio.to_thread(self._note, batch, journal)
            status = await self._lines(batch, journal, places)
            if status is not None:
                await asyncio.to_thread(self._finish, batch, journal, status)

    @asynccontextmanager
    async def _journal(self, batch: Batch) -> AsyncIterator[Journal]:
        path = self.shelf.folder_of(batch.batch_id) / "journal"
        opening = asyncio.create_task(asyncio.to_thread(Journal, path))
        try:
            yield await asyncio.shield(opening)
        finally:
            (await opening).close()

    async def _lines(self, batch: Batch, journal: Journal, places: asyncio.Semaphore) -> BatchStatus | None:
        """Run what is not done; return how the batch ended.

        As many of its lines as there are places are looked at; those that wait to be asked again hold no place.
        """
        under_way: set[asyncio.Task[None]] = set()
        own = asyncio.Semaphore(self.at_once)
        try:
            async for number, raw in self._to_do(batch, journal):
                await own.acquire()
                if self._stops(batch):
                    break
                task = asyncio.create_task(self._line(batch, number, raw, journal, places))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                task.add_done_callback(lambda _: own.release())
            await asyncio.gather(*under_way)
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
        return self._stops(batch) if len(journal.done) < batch.total else BatchStatus.COMPLETED

    async def _to_do(self, batch: Batch, journal: Journal) -> AsyncIterator[tuple[int, bytes]]:
        """Yield the lines that are not done. They are read beside the event loop: one may have 32 MiB."""
        path = await asyncio.to_thread(self.shelf.input_of, batch)
        lines = ((number, raw) for number, raw in lines_of(path) if number not in journal.done)
        while (line := await asyncio.to_thread(next, lines, None)) is not None:
            yield line

    def _stops(self, batch: Batch) -> BatchStatus | None:
        if self.shelf.is_cancelled(batch.batch_id):
            return BatchStatus.CANCELLED
        return BatchStatus.EXPIRED if self._now() >= batch.expires_at else None

    async def _line(self, batch: Batch, number: int, raw: bytes, journal: Journal, places: asyncio.Semaphore) -> None:
        line = await asyncio.to_thread(read_line, raw, number, batch.endpoint)
        assert isinstance(line, Line)  # all were looked at before the first was run
        done = await self._answered(batch, number, line, places)
        if done is not None:
            await asyncio.to_thread(self._keep, batch, journal, done)

    async def _answered(self, batch: Batch, number: int, line: Line, places: asyncio.Semaphore) -> Done | None:
        """Ask until there is an answer that stays; None when the batch stops first."""
        tries = 0
        while self._stops(batch) is None:
            if not self.may(batch):
                text = "The key that gave this batch is not valid any more."
                return Done(number, False, failure_line(batch.batch_id, number, line, "invalid_api_key", text))
            room = self.has_room()
            self.troubles.note("disk", None if room else "batches wait: the disk has less left than must stay free")
            if not room:
                await self.sleep(LOOK_EVERY_S)
                continue
            reply = await self._asked(batch, line, places)
            if reply is None:
                return None
            tries += 1
            if reply.status not in TRIED_AGAIN or (reply.status in BROKEN and tries >= MOST_TRIES):
                of_line = (batch.batch_id, number, line, reply.status, reply.request_id, reply.body)
                return Done(number, reply.status < 400, await asyncio.to_thread(result_line, *of_line))
            await self.sleep(min(LONGEST_WAIT_S, reply.retry_after_s * 2 ** min(tries, 10)))
        return None

    async def _asked(self, batch: Batch, line: Line, places: asyncio.Semaphore) -> Reply | None:
        """Ask once; None when the batch stopped while there was no place.

        A place is held no longer: else lines that a tenant's limit puts off would keep everybody's batches away.
        """
        async with places:
            if self._stops(batch) is not None:
                return None
            try:
                return await self.send(batch, line.body)
            except OSError:
                return Reply(503, b"", "")

    def _keep(self, batch: Batch, journal: Journal, done: Done) -> None:
        with journal.lock:
            journal.add(done)
            self._note(batch, journal)

    def _note(self, batch: Batch, journal: Journal) -> None:
        self.shelf.put_batch(batch.evolve(completed=journal.completed, failed=journal.failed))

    def _finish(self, batch: Batch, journal: Journal, status: BatchStatus) -> None:
        """Write the files of results, then that it ended: done again it gives the same."""
        ended = {"status": status, "ended_at": int(self._now())}
        counts = {"completed": journal.completed, "failed": journal.failed}
        outputs = self._give_out(batch, journal, ok=True) if journal.completed else None
        errors = self._give_out(batch, journal, ok=False) if journal.failed else None
        self.shelf.put_batch(batch.evolve(**ended, **counts, output_file_id=outputs, error_file_id=errors))
        self.shelf.clear(batch.batch_id)

    def _give_out(self, batch: Batch, journal: Journal, *, ok: bool) -> str:
        kind = "output" if ok else "errors"
        file_id = f"{batch.batch_id.replace('batch', 'file', 1)}-{kind}"
        lines = (done.line + b"\n" for done in journal.entries() if done.ok is ok)
        size = self.shelf.write_content(file_id, lines)
        stored = StoredFile(
            file_id=file_id,
            tenant=batch.tenant,
            filename=f"{batch.batch_id}_{kind}.jsonl",
            purpose="batch_output",
            size=size,
            created_at=int(self._now()),
        )
        self.shelf.put_file(stored)
        return file_id

    def _checked(self, batch: Batch) -> int | list[LineError]:
        """Return how many lines a batch has, or what is wrong with its file: then none is run. Raises OSError."""
        try:
            return _checked(self.shelf.input_of(batch), batch.endpoint)
        except FileNotFoundError:
            return [LineError(line=None, code="file_not_found", message="The input file was deleted.")]

    def _now(self) -> float:
        return self.wall_clock().timestamp()


def _checked(path: Path, endpoint: str) -> int | list[LineError]:
    errors: list[LineError] = []
    seen: set[str] = set()
    for number, raw in lines_of(path):
        line = read_line(raw, number, endpoint)
        if isinstance(line, Line) and line.custom_id in seen:
            line = LineError(line=number, code="duplicate_custom_id", message="This `custom_id` stood before.")
        if isinstance(line, Line):
            seen.add(line.custom_id)
        elif len(errors) < MOST_ERRORS:
            errors.append(line)
    if not seen and not errors:
        return [LineError(line=None, code="empty_file", message="The input file has no requests.")]
    if len(seen) > MOST_LINES:
        return [LineError(line=None, code="too_many_tasks", message=f"At most {MOST_LINES} requests.")]
    return errors or len(seen)
