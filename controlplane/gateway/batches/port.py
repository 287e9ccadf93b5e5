"""OpenAI's `/v1/files` and `/v1/batches` on the data port. Everybody sees their own tenant's only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import aiohttp
from aiohttp import web

from controlplane.domain.door.batch import ENDPOINTS, MOST_METADATA, WINDOW, Batch, StoredFile
from controlplane.domain.door.identity import DEFAULT_TENANT, ApiKey, Principal
from controlplane.gateway.batches.ledger import UPLOAD_WITHIN_S, Ledger
from controlplane.gateway.batches.paging import page_of
from controlplane.gateway.batches.queue import BatchQueue
from controlplane.gateway.batches.shelf import Shelf, private_opener
from controlplane.gateway.batches.troubles import Troubles
from controlplane.gateway.body import read_body
from controlplane.gateway.openai_errors import RequestRefused

Identify = Callable[[web.Request], Awaitable[Principal | None]]

_PURPOSE = "batch"
_LARGEST_FIELD = 1024
_LARGEST_FRAME_BYTES = 64 << 10  # of a form, beside its file
_LARGEST_FIELDS_BYTES = 64 << 10  # of a batch: it is parsed on the event loop
_FIELDS_WITHIN_S = 15.0


@dataclass(frozen=True)
class BatchPort:
    """The handlers. `wall_clock` gives aware UTC."""

    shelf: Shelf
    ledger: Ledger
    queue: BatchQueue
    largest_file_bytes: int
    wall_clock: Callable[[], datetime]
    troubles: Troubles = field(default_factory=Troubles)

    def add_to(self, router: web.UrlDispatcher, identify: Identify) -> None:
        """Add the paths; whoever asks is identified first."""
        paths = (
            ("POST", "/v1/files", self._upload),
            ("GET", "/v1/files", self._files),
            ("GET", "/v1/files/{id}", self._file),
            ("GET", "/v1/files/{id}/content", self._content),
            ("DELETE", "/v1/files/{id}", self._delete),
            ("POST", "/v1/batches", self._create),
            ("GET", "/v1/batches", self._batches),
            ("GET", "/v1/batches/{id}", self._batch),
            ("POST", "/v1/batches/{id}/cancel", self._cancel),
        )
        for method, path, handle in paths:
            router.add_route(method, path, _identified(identify, handle))

    async def _upload(self, request: web.Request, who: Principal | None) -> web.StreamResponse:
        if request.content_type != "multipart/form-data":
            raise RequestRefused(400, "The body must be multipart/form-data.", code="invalid_form")
        file_id, tenant = self.shelf.new_id("file"), _tenant(who)
        await asyncio.to_thread(self.ledger.take_place, file_id, tenant, self._most_bytes(request))
        try:
            stored = await self._stored(request, file_id, tenant)
        except BaseException:
            self.shelf.draft_path(file_id).unlink(missing_ok=True)
            raise
        finally:
            self.ledger.give_back(file_id)
        return web.json_response(stored.shown())

    def _most_bytes(self, request: web.Request) -> int:
        """Return how large the file can be, by what the head says. Raises RequestRefused (413)."""
        length = request.content_length
        if length is not None and length > self.largest_file_bytes + _LARGEST_FRAME_BYTES:
            raise self._too_large()
        return self.largest_file_bytes if length is None else min(length, self.largest_file_bytes)

    async def _stored(self, request: web.Request, file_id: str, tenant: str) -> StoredFile:
        try:
            async with asyncio.timeout(UPLOAD_WITHIN_S):
                filename, purpose, size = await self._received(request, file_id)
        except TimeoutError as error:
            text = f"The file did not come within {UPLOAD_WITHIN_S:g} s."
            raise RequestRefused(408, text, code="request_timeout") from error
        if filename is None or purpose != _PURPOSE:
            text = f"Give a `file`, and `{_PURPOSE}` as its `purpose`."
            raise RequestRefused(400, text, code="invalid_form", param="purpose")
        stored = StoredFile(
            file_id=file_id,
            tenant=tenant,
            filename=filename,
            purpose=_PURPOSE,
            size=size,
            created_at=self._now(),
        )
        await asyncio.to_thread(self._keep, stored)
        return stored

    def _keep(self, stored: StoredFile) -> None:
        try:
            self.shelf.keep_draft(stored.file_id)
        except OSError as error:
            raise _no_storage() from error
        self.shelf.put_file(stored)

    async def _received(self, request: web.Request, file_id: str) -> tuple[str | None, str, int]:
        """Write the form's file to its place; return its name, the purpose and its size."""
        filename, purpose, size = None, "", 0
        try:
            async for part in await request.multipart():
                if not isinstance(part, aiohttp.BodyPartReader):
                    continue
                if part.name == "purpose":
                    purpose = (await part.read_chunk(_LARGEST_FIELD)).decode(errors="replace").strip()
                elif part.name == "file":
                    filename, size = _writable(part.filename or "file.jsonl"), await self._written(part, file_id)
        except ValueError as error:
            raise RequestRefused(400, "The form is not well-formed.", code="invalid_form") from error
        return filename, purpose, size

    async def _written(self, part: aiohttp.BodyPartReader, file_id: str) -> int:
        size = 0
        with open(self.shelf.draft_path(file_id), "wb", opener=private_opener) as file:  # noqa: ASYNC230
            while chunk := await part.read_chunk(1 << 18):
                size += len(chunk)
                if size > self.largest_file_bytes:
                    raise self._too_large()
                await asyncio.to_thread(file.write, chunk)
        return size

    def _too_large(self) -> RequestRefused:
        text = f"The file is larger than {self.largest_file_bytes} bytes."
        return RequestRefused(413, text, code="request_too_large", param="file")

    async def _files(self, request: web.Request, who: Principal | None) -> web.StreamResponse:
        found = await asyncio.to_thread(self.shelf.files, _tenant(who))
        return page_of(request, [(each.file_id, each.shown()) for each in found])

    async def _file(self, request: web.Request, who: Principal | None) -> web.StreamResponse:
        return web.json_response(self._own_file(request, who).shown())

    async def _content(self, request: web.Request, who: Principal | None) -> web.StreamResponse:
        stored = self._own_file(request, who)
        headers = {"Content-Type": "application/octet-stream"}
        here = self.shelf.contents.here(stored.file_id)
        if here is not None:
            return web.FileResponse(here, headers=headers)
        pieces = self.shelf.contents.pieces(stored.file_id)
        try:
            piece = await asyncio.to_thread(next, pieces, b"")
        except OSError as error:
            raise _no_storage() from error
        response = web.StreamResponse(headers=headers | {"Content-Length": str(stored.size)})
        await response.prepare(request)
        while piece:
            await response.write(piece)
            piece = await asyncio.to_thread(next, pieces, b"")
        return response

    async def _delete(self, request: web.Request, who: Principal | None) -> web.StreamResponse:
        stored = self._own_file(request, who)
        with suppress(OSError):  # it is not known any more; what is left of it goes later
            await asyncio.to_thread(self.shelf.delete_file, stored.file_id)
        return web.json_response({"id": stored.file_id, "object": "file", "deleted": True})

    async def _create(self, request: web.Request, who: Principal | None) -> web.StreamResponse:
        given = await _fields(request)
        if not isinstance(given.get("endpoint"), str) or given["endpoint"] not in ENDPOINTS:
            raise _invalid("endpoint", f"one of {', '.join(sorted(ENDPOINTS))}")
        if given.get("completion_window") != WINDOW:
            raise _invalid("completion_window", WINDOW)
        if not _is_metadata(given.get("metadata")):
            raise _invalid("metadata", f"at most {MOST_METADATA} texts by name")
        file_id = given.get("input_file_id")
        if not isinstance(file_id, str) or self.shelf.file(file_id, _tenant(who)) is None:
            raise _invalid("input_file_id", "the id of a file of yours")
        batch = Batch(
            batch_id=self.shelf.new_id("batch"),
            principal=_without_secret(who),
            by_key=isinstance(who, ApiKey),
            endpoint=given["endpoint"],
            input_file_id=file_id,
            metadata=given.get("metadata") or {},
            created_at=self._now(),
        )
        await asyncio.to_thread(self._admit, batch)
        try:
            await self.queue.give(batch.batch_id)
        except OSError as error:
            await asyncio.to_thread(self.shelf.forget, batch.batch_id)
            raise _no_storage("queue of batches") from error
        return web.json_response(batch.shown())

    def _admit(self, batch: Batch) -> None:
        with self.ledger.admitting(batch.tenant):
            self.shelf.put_batch(batch)

    async def _batches(self, request: web.Request, who: Principal | None) -> web.StreamResponse:
        found = [batch for batch in await asyncio.to_thread(self.shelf.batches) if batch.tenant == _tenant(who)]
        return page_of(request, [(each.batch_id, self._shown(each)) for each in reversed(found)])

    async def _batch(self, request: web.Request, who: Principal | None) -> web.StreamResponse:
        return web.json_response(self._shown(self._own_batch(request, who)))

    async def _cancel(self, request: web.Request, who: Principal | None) -> web.StreamResponse:
        batch = self._own_batch(request, who)
        if batch.has_ended:
            raise RequestRefused(409, f"The batch has ended: it is {batch.status}.", code="batch_ended")
        self.shelf.ask_to_cancel(batch.batch_id)
        return web.json_response(self._shown(batch))

    def _shown(self, batch: Batch) -> dict[str, Any]:
        return batch.shown(cancelling=self.shelf.is_cancelled(batch.batch_id))

    def _own_file(self, request: web.Request, who: Principal | None) -> StoredFile:
        found = self.shelf.file(request.match_info["id"], _tenant(who))
        if found is None:
            raise RequestRefused(404, "There is no such file.", code="file_not_found", param="file_id")
        return found

    def _own_batch(self, request: web.Request, who: Principal | None) -> Batch:
        found = self.shelf.batch(request.match_info["id"])
        if found is None or found.tenant != _tenant(who):
            raise RequestRefused(404, "There is no such batch.", code="batch_not_found", param="batch_id")
        return found

    def _now(self) -> int:
        return int(self.wall_clock().timestamp())


def _identified(
    identify: Identify, handle: Callable[[web.Request, Principal | None], Awaitable[web.StreamResponse]]
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await handle(request, await identify(request))

    return handler


async def _fields(request: web.Request) -> dict[str, Any]:
    body = await read_body(request, _LARGEST_FIELDS_BYTES, _FIELDS_WITHIN_S)
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestRefused(400, "The body is not valid JSON.", code="invalid_json") from error
    if not isinstance(given, dict):
        raise RequestRefused(400, "The body must be a JSON object.", code="invalid_json")
    return given


def _is_metadata(given: object) -> bool:
    if given is None:
        return True
    if not isinstance(given, dict) or len(given) > MOST_METADATA:
        return False
    fits = (isinstance(value, str) and len(value) <= 512 and len(name) <= 64 for name, value in given.items())
    return all(fits) and all(_writable(text) == text for pair in given.items() for text in pair)


def _writable(text: str) -> str:
    """Return a text as it can be written down: halves of surrogate pairs, or bytes that are no UTF-8, cannot."""
    return text.encode("utf-8", "replace").decode()


def _no_storage(of: str = "storage of files") -> RequestRefused:
    text = f"The {of} does not answer now."
    return RequestRefused(503, text, code="storage_unavailable", headers={"Retry-After": "5"})


def _invalid(field: str, allowed: str) -> RequestRefused:
    return RequestRefused(400, f"`{field}` must be {allowed}.", code="invalid_request", param=field)


def _without_secret(who: Principal | None) -> Principal | None:
    """Return who asks without what a key has beside: not even a hash of a secret is kept with a batch."""
    return None if who is None else Principal(**{name: getattr(who, name) for name in Principal.model_fields})


def _tenant(who: Principal | None) -> str:
    return who.tenant if who else DEFAULT_TENANT
