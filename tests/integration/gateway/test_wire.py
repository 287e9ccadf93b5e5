"""What comes over the wire: malformed requests leave no trace of their content, bombs and huge headers are refused."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import zlib
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from controlplane.gateway.wire import DiscreetRunner
from tests.integration.gateway.harness import CHAT, Gateway, chat, gateway, revision
from tests.integration.gateway.upstream import upstream

PLANTED = "PLANTED-s3cret"
HEAD = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n".encode()
SECRET = PLANTED.encode()
CUT_OFF = b"Content-Length: 40\r\n\r\n" + SECRET


async def raw(url: str, data: bytes) -> bytes:
    """Send bytes as they are and return everything that is answered until the server closes."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(data)
        if data.endswith(CUT_OFF):
            writer.write_eof()
        async with asyncio.timeout(240):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("path", "more", "begins"),
    [
        (CHAT, b"", b"HTTP/1.1 200 OK"),
        (CHAT + "/", b"", b"HTTP/1.1 200 OK"),
        (CHAT + "?a=b", b"", b"HTTP/1.1 200 OK"),
        (CHAT.replace("chat", "%63hat"), b"", b"HTTP/1.1 200 OK"),
        (CHAT, b"Expect: 100-continue\r\n", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"),
        (CHAT, b"Expect: a-miracle\r\n", b"HTTP/1.1 417 "),
    ],
)
async def test_however_a_path_is_written_its_request_is_answered(
    tmp_path: Path, path: str, more: bytes, begins: bytes
) -> None:
    body = b'{"model":"llama","messages":[]}'
    head = HEAD.replace(CHAT.encode(), path.encode()) + more + b"Content-Length: %d\r\n\r\n" % len(body)
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        answer = await raw(gw.url, head + body)
    assert answer.startswith(begins)


@pytest.mark.parametrize("port", ["data", "admin"])
@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(HEAD + b'Content-Length: 17\r\n\r\n{"model":"llama"}' + SECRET + b"\r\n\r\n", id="body too long"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\n{}  " + SECRET + b"\r\n", id="bad chunk"),
        pytest.param(HEAD + b"X-Session-Id: \x01 " + SECRET + b"\r\n\r\n", id="bad header"),
        pytest.param(HEAD + b"Authorization: Bearer " + SECRET + b"\x01\r\n\r\n", id="bad key"),
        pytest.param(SECRET + b" / HTTP/9.9\r\n\r\n", id="bad method"),
        pytest.param(b"GET /" + SECRET + b" HTTP/3 x\r\n\r\n", id="bad line"),
        pytest.param(HEAD + b"X-A: " + SECRET + b"a" * 70_000 + b"\r\n\r\n", id="huge header"),
        pytest.param(HEAD + b"X-A: " + SECRET + b"\r\n" + b"X-B: 1\r\n" * 200 + b"\r\n", id="many headers"),
        pytest.param(HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + SECRET, id="two lengths"),
        pytest.param(
            HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECRET, id="smuggling"
        ),
        pytest.param(HEAD + CUT_OFF, id="cut off"),
        pytest.param(HEAD + b"Content-Length: %d\r\n\r\n" % (len(SECRET) + 2) + b"{" + SECRET + b"}", id="no JSON"),
        pytest.param(HEAD + b"Content-Encoding: " + SECRET + b"\r\nContent-Length: 2\r\n\r\n{}", id="bad encoding"),
    ],
)
async def test_nothing_of_a_malformed_request_is_logged_or_sent_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, sent: bytes, port: str
) -> None:
    caplog.set_level(logging.DEBUG)
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        address = gw.running.address
        answer = await raw(address.url if port == "data" else address.admin_url, sent)
    # `asyncio` logs its own debug lines; nothing of ours or aiohttp's may hold the planted words.
    assert PLANTED not in caplog.text
    assert SECRET not in answer
    assert not answer.split()[1:2] or answer.split()[1][:1] in (b"2", b"4")


@pytest.mark.parametrize(("status", "sent"), [(431, b"X-A: " + b"a" * 70_000), (400, b"X-A: \x01")])
async def test_what_is_no_http_is_an_openai_error(tmp_path: Path, status: int, sent: bytes) -> None:
    async with gateway(tmp_path) as gw:
        answer = await raw(gw.url, HEAD + sent + b"\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split()[1] == b"%d" % status
    assert json.loads(body)["error"]["type"] == "invalid_request_error"


async def test_a_header_of_sixty_kilobytes_is_passed_on(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        code, _, _ = await gw.post(chat(), **{"X-Big": "a" * 60_000})
    assert code == 200
    assert engine.seen[0].headers["X-Big"] == "a" * 60_000


async def test_where_our_code_broke_is_logged_without_what_the_client_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def breaks(request: web.Request) -> web.StreamResponse:
        raise KeyError(PLANTED)

    async with gateway(tmp_path) as gw:
        app = web.Application()
        app.router.add_get("/", breaks)
        runner = DiscreetRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with gw.session.get(f"http://127.0.0.1:{runner.addresses[0][1]}/") as response:
            assert (response.status, (await response.json())["error"]["code"]) == (500, "internal")
        await runner.cleanup()
    assert "KeyError at" in caplog.text
    assert "breaks" in caplog.text
    assert PLANTED not in caplog.text


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_compressed_body_reaches_the_engine_plain(tmp_path: Path, encoding: str, pack: object) -> None:
    sent = json.dumps(chat()).encode()
    assert callable(pack)
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        code, _, _ = await gw.post(pack(sent), **{"Content-Encoding": encoding})
    assert (code, engine.bodies) == (200, [sent])
    assert "Content-Encoding" not in engine.seen[0].headers


async def test_members_of_a_gzip_body_are_put_together(tmp_path: Path) -> None:
    sent = json.dumps(chat()).encode()
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        await gw.post(gzip.compress(sent[:9]) + gzip.compress(sent[9:]), **{"Content-Encoding": "gzip"})
    assert engine.bodies == [sent]


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        pytest.param(gzip.compress(b" " * 3_000_000), "gzip", 413, id="bomb"),
        pytest.param(gzip.compress(b" " * 600_000) * 4, "gzip", 413, id="bomb of several members"),
        pytest.param(zlib.compress(b" " * 3_000_000), "deflate", 413, id="deflate bomb"),
        pytest.param(gzip.compress(b"{}")[:-9], "gzip", 400, id="cut off"),
        pytest.param(b"{}", "gzip", 400, id="not compressed"),
        pytest.param(b"{}", "br", 415, id="unknown encoding"),
    ],
)
async def test_a_bomb_or_an_odd_encoding_is_refused(tmp_path: Path, body: bytes, encoding: str, status: int) -> None:
    async with gateway(tmp_path, max_body_bytes=1_000_000) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        code, answer, _ = await gw.post(body, **{"Content-Encoding": encoding})
    assert code == status
    assert json.loads(answer)["error"]["type"] == "invalid_request_error"
    assert engine.seen == []


@pytest.mark.parametrize("field", ["user", "prompt_cache_key", "model", "cache_salt", "x"])
async def test_half_a_surrogate_pair_is_no_error_of_ours(tmp_path: Path, field: str) -> None:
    body = json.dumps(chat() | {field: "MARK"}).replace("MARK", "\\ud83d").encode()
    async with gateway(tmp_path) as gw, upstream("a") as stable, upstream("b") as canary:
        await gw.route(revision("stable", 95, stable), revision("canary", 5, canary))
        code, _, _ = await gw.post(body)
    assert code == (404 if field == "model" else 200)


async def test_a_constant_user_does_not_flood_a_small_canary(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("a") as stable, upstream("b") as canary:
        await gw.route(revision("stable", 95, stable), revision("canary", 5, canary))
        name = await _drawn_to_the_canary(gw)
        before = len(canary.seen)
        for _ in range(60):
            await gw.post(chat(user=name))
    assert len(canary.seen) - before < 20


async def _drawn_to_the_canary(gw: Gateway) -> str:
    for number in range(400):
        _, _, headers = await gw.post(chat(user=f"app{number}"))
        if headers["X-Fleetune-Revision"] == "canary":
            return f"app{number}"
    raise AssertionError("no session of 400 went to the canary")
