"""Who wants to hurt the neighbours is refused: slow senders, bombs, and requests that two servers would read apart."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from pathlib import Path

import pytest

from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.identity import Limits
from controlplane.domain.door.queue_options import QueueOptions
from controlplane.gateway.forms import form_fields
from controlplane.gateway.openai_errors import RequestRefused
from tests.integration.gateway.harness import CHAT, chat, gateway, revision
from tests.integration.gateway.upstream import upstream

BODY = json.dumps(chat(stream=False)).encode()
SMUGGLED = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 17\r\n\r\n" + b'{"model":"llama"}'


async def connected(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Everything until the server closes."""
    async with asyncio.timeout(240):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("before", [b"", HEALTH], ids=["first", "kept alive"])
async def test_a_head_that_does_not_end_is_not_waited_for(tmp_path: Path, before: bytes) -> None:
    async with gateway(tmp_path, head_within_s=0.2) as gw:
        loris = [await connected(gw.url) for _ in range(50)]
        for reader, writer in loris:
            writer.write(before)
            if before:
                await reader.readuntil(b'"ok"}')
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nX-A: ")
        async with gw.session.get(gw.url + "/health") as response:  # whoever is quick is served meanwhile
            assert response.status == 200
        answers = [await rest(reader) for reader, _ in loris]
        for _, writer in loris:
            writer.close()
    assert {answer[:12] for answer in answers} == {b"HTTP/1.1 408"}


async def test_a_head_in_pieces_is_fine_as_long_as_it_ends(tmp_path: Path) -> None:
    async with gateway(tmp_path, head_within_s=3600) as gw:
        reader, writer = await connected(gw.url)
        for piece in (b"GET /hea", b"lth HTTP/1.1\r\nHo", b"st: x\r\nConnection: close\r\n", b"\r\n"):
            writer.write(piece)
            await asyncio.sleep(0)
        assert (await rest(reader)).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    async with gateway(tmp_path, body_within_s=0.2) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        reader, writer = await connected(gw.url)
        writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n".encode() + b"{")
        answer = await rest(reader)
        writer.close()
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"body_too_slow" in answer
    assert engine.seen == []


HEAD = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n".encode()


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(
            HEAD + b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
            id="CL.TE",
        ),
        pytest.param(
            HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n" + SMUGGLED + b"\r\n0\r\n\r\n",
            id="TE.CL",
        ),
        pytest.param(HEAD + b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n" + SMUGGLED, id="two lengths"),
        pytest.param(HEAD + b"Content-Length: +%d\r\n\r\n" % len(BODY) + BODY + SMUGGLED, id="signed length"),
        pytest.param(HEAD + b"Content-Length : 0\r\n\r\n" + SMUGGLED, id="space before colon"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED, id="two codings"),
        pytest.param(HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED, id="odd space"),
        pytest.param(HEAD + b"X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, id="folded header"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nabcde\r\n0\r\n\r\n" + SMUGGLED, id="hex prefix"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n" + SMUGGLED, id="negative chunk"),
    ],
)
async def test_what_two_servers_would_read_apart_reaches_no_engine(tmp_path: Path, sent: bytes) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        reader, writer = await connected(gw.url)
        writer.write(sent)
        writer.write_eof()
        answer = await rest(reader)
        writer.close()
    assert not [request for request in engine.seen if request.path == "/v1/completions"]
    assert b" 200 " not in answer
    assert b" 50" not in answer.partition(b"\r\n")[0]


async def test_a_thousand_headers_and_their_bytes_are_bounded(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw:
        reader, writer = await connected(gw.url)
        writer.write(HEAD + b"".join(b"X-%d: %s\r\n" % (number, b"a" * 8000) for number in range(1000)) + b"\r\n")
        answer = await rest(reader)
        writer.close()
    assert answer[:10] in (b"HTTP/1.1 4", b"")


@pytest.mark.parametrize(
    ("body", "encoding", "code"),
    [
        pytest.param(gzip.compress(b"") * 50_000, "gzip", "bad_encoding", id="empty members"),
        pytest.param(zlib.compress(zlib.compress(b" " * 10_000_000)), "deflate", "invalid_json", id="packed twice"),
        pytest.param(b'{"a":' * 100_000, "identity", "invalid_json", id="deep"),
        pytest.param(b'{"model": ' + b"9" * 5_000 + b"}", "identity", "missing_model", id="huge number"),
    ],
)
async def test_bombs_are_refused(tmp_path: Path, body: bytes, encoding: str, code: str) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        status, answer, _ = await gw.post(body, **{"Content-Encoding": encoding})
    assert 400 <= status < 500
    assert json.loads(answer)["error"]["code"] in (code, "invalid_json")
    assert engine.seen == []


def test_a_form_of_a_million_parts_is_refused_and_not_taken_apart() -> None:
    with pytest.raises(RequestRefused, match="parts"):
        form_fields(b"\r\n--x" * 1_000_000, "multipart/form-data; boundary=x")


PAGES = (
    ({"Host": "evil.example"}, "host_not_allowed"),  # a page whose name was made to resolve to this machine
    ({"Host": "evil.example:8000"}, "host_not_allowed"),
    ({"Host": "127.0.0.1.evil.example"}, "host_not_allowed"),
    ({"Origin": "https://evil.example"}, "origin_not_allowed"),
    ({"Origin": "null"}, "origin_not_allowed"),
)


@pytest.mark.parametrize(("headers", "code"), PAGES)
async def test_without_keys_no_page_of_a_browser_may_ask(tmp_path: Path, headers: dict[str, str], code: str) -> None:
    async with gateway(tmp_path, batch_days=1) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        status, body, _ = await gw.post(chat(stream=False), **headers)
        assert (status, json.loads(body)["error"]["code"]) == (403, code)
        for path in ("/v1/models", "/v1/files", "/v1/batches"):
            async with gw.session.get(gw.url + path, headers=headers) as response:
                assert response.status == 403
        for host in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
            assert (await gw.post(chat(stream=False), Host=host))[0] == 200
        await gw.route(revision("rev-a", 100, engine), version=2, keys={"a": "s3cret"})
        assert (await gw.post(chat(stream=False), Authorization="Bearer s3cret", **headers))[0] == 200
    assert len(engine.seen) == 4


async def test_a_number_beyond_all_bounds_stops_neither_limits_nor_the_queue(tmp_path: Path) -> None:
    options = GatewayOptions(limits=Limits(tokens_per_day=10), queue=QueueOptions(enabled=True))
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine).evolve(concurrency_limit=1), options=options)
        asked = [gw.post(chat(stream=False, max_tokens=10**400, n=10**400)) for _ in range(3)]
        asked += [gw.post(chat(stream=False, max_tokens=given)) for given in (-1, 0, 1e308, "9" * 4000, True)]
        assert {status for status, _, _ in await asyncio.gather(*asked)} <= {200, 429}
        assert (await gw.status())["in_flight"] == 0


async def test_nobody_gives_a_request_the_name_of_anothers_at_the_engine(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        answered = [(await gw.post(chat(), **{"X-Request-Id": "a-victim's"}))[2]["X-Request-Id"] for _ in range(2)]
    asked = [request.headers["X-Request-Id"] for request in engine.seen]
    assert asked == answered
    assert len({*asked, "a-victim's"}) == 3
