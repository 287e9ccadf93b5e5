"""A server that speaks as much of S3's protocol as contents of files need, held to the suite of `Contents`.

It checks who asks, not their signature. Uploads in parts become objects when they are completed, as in S3.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from xml.sax.saxutils import escape, unescape

from aiohttp import web

BUCKET = "files"
WHO = "tests-key"
SECRET = "planted-s3-secret"

_KEY = re.compile(rb"<Key>([^<]*)</Key>")
_PART = re.compile(rb"<PartNumber>(\d+)</PartNumber>")


@dataclass
class FakeS3:
    """One bucket. `objects` by key; `parts` of uploads that were not completed; while it `breaks` it answers 503."""

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    changed: dict[str, datetime] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)  # method, and path with its query
    breaks: bool = False
    breaks_at_part: int | None = None
    holds: asyncio.Event | None = None  # parts behind the first wait for it
    held: asyncio.Event = field(default_factory=asyncio.Event)  # one does

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": WHO,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": "us-east-1",
        }

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.raw_path))
        body, query = await request.read(), request.query
        if self.breaks:
            return web.Response(status=503)
        if f"Credential={WHO}/" not in request.headers.get("Authorization", ""):
            return web.Response(status=403)
        key = request.path.removeprefix(f"/{BUCKET}").removeprefix("/")
        if "uploads" in query or "uploadId" in query:
            return await self._in_parts(request.method, key, query.get("uploadId"), query.get("partNumber"), body)
        if "delete" in query:
            return self._deleted([unescape(each.decode()) for each in _KEY.findall(body)])
        if not key:
            return self._listed(query.get("prefix", ""))
        return self._whole(request.method, key, body)

    def _whole(self, method: str, key: str, body: bytes) -> web.Response:
        if method == "PUT":
            self._keep(key, body)
            return web.Response(headers={"ETag": _tag(body)})
        if key not in self.objects:
            return web.Response(status=404)
        headers = {"ETag": _tag(self.objects[key]), "Last-Modified": f"{self.changed[key]:%a, %d %b %Y %H:%M:%S GMT}"}
        return web.Response(body=self.objects[key], headers=headers)

    def _deleted(self, keys: list[str]) -> web.Response:
        for key in keys:
            self.objects.pop(key, None)
        rows = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        return _xml(f"<DeleteResult>{rows}</DeleteResult>")

    async def _in_parts(
        self, method: str, key: str, upload: str | None, number: str | None, body: bytes
    ) -> web.StreamResponse:
        if upload is None:
            upload = f"upload-{len(self.asked)}"
            self.parts[upload] = {}
            return _xml(f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>")
        if method == "DELETE":
            del self.parts[upload]
            return web.Response(status=204)
        if number is not None:
            if self.breaks_at_part == int(number):
                raise ConnectionResetError
            if self.holds is not None and int(number) > 1:
                self.held.set()
                await self.holds.wait()
            self.parts[upload][int(number)] = body
            return web.Response(headers={"ETag": _tag(body)})
        parts = self.parts.pop(upload)
        self._keep(key, b"".join(parts[int(each)] for each in _PART.findall(body)))
        return _xml('<CompleteMultipartUploadResult><ETag>"x"</ETag></CompleteMultipartUploadResult>')

    def _keep(self, key: str, body: bytes) -> None:
        self.objects[key] = body
        self.changed[key] = datetime.now(UTC)

    def _listed(self, prefix: str) -> web.Response:
        rows = [
            f"<Contents><Key>{escape(key)}</Key><Size>{len(body)}</Size><ETag>{_tag(body)}</ETag>"
            f"<LastModified>{self.changed[key]:%Y-%m-%dT%H:%M:%S.000Z}</LastModified></Contents>"
            for key, body in sorted(self.objects.items())
            if key.startswith(prefix)
        ]
        return _xml(f"<ListBucketResult><IsTruncated>false</IsTruncated>{''.join(rows)}</ListBucketResult>")


def _tag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


def _xml(text: str) -> web.Response:
    return web.Response(text=text, content_type="application/xml")


@asynccontextmanager
async def fake_s3() -> AsyncIterator[FakeS3]:
    """Run one on a free port of this machine."""
    fake = FakeS3()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{rest:.*}", fake.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await runner.cleanup()
