"""A connection to an engine: what comes is handed out whole, and one that says too much or too little is not kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field

import pytest
from multidict import CIMultiDict

from controlplane.gateway.engine_connection import LARGEST_HEAD_BYTES, BrokenOff, EngineConnection, TookTooLong
from controlplane.gateway.engine_connections import EngineConnections, NotConnected

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HEADERS = CIMultiDict({"X-One": "1"})
SECOND_BODY = b"x" * (2 << 20)


@dataclass
class Engine:
    """A server that answers each request with the next of these bytes, and closes behind the last."""

    answers: list[bytes]
    url: str = ""
    asked: list[bytes] = field(default_factory=list)
    connections: int = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with closing(writer), suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
                self.asked.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0)
                writer.write(answer)
                await writer.drain()
                if not self.answers:
                    break


@asynccontextmanager
async def engine(*answers: bytes) -> AsyncIterator[tuple[Engine, EngineConnections]]:
    one, engines = Engine(list(answers)), EngineConnections()
    server = await asyncio.start_server(one.talk, "127.0.0.1", 0)
    one.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/below"
    try:
        yield one, engines
    finally:
        engines.close()
        server.close()


async def ask(one: Engine, engines: EngineConnections, body: bytes = b"{}") -> EngineConnection:
    return await engines.ask(one.url, "/v1/x?a=1", HEADERS, body, connect_s=5)


async def body_of(one: Engine, engines: EngineConnections, body: bytes = b"{}") -> bytes:
    connection = await ask(one, engines, body)
    try:
        await connection.answered()
        return await connection.read_all()
    finally:
        engines.give_back(one.url, connection)


async def test_a_request_is_written_with_its_place_and_its_length() -> None:
    async with engine(OK) as (one, engines):
        assert await body_of(one, engines, b"hello") == b"hi"
        named = one.url.removeprefix("http://").partition("/")[0].encode()
        assert one.asked[0] == (
            b"POST /below/v1/x?a=1 HTTP/1.1\r\nHost: %b\r\nContent-Length: 5\r\nX-One: 1\r\n\r\nhello" % named
        )


async def test_a_connection_whose_answer_was_read_is_asked_again() -> None:
    async with engine(OK, CHUNKED + b"2\r\nho\r\n0\r\n\r\n", OK) as (one, engines):
        assert [await body_of(one, engines) for _ in range(3)] == [b"hi", b"ho", b"hi"]
        assert one.connections == 1


async def test_a_large_body_arrives_whole() -> None:
    async with engine(OK, OK) as (one, engines):
        assert await body_of(one, engines, SECOND_BODY) == b"hi"
        assert await body_of(one, engines) == b"hi"
        assert one.asked[0].endswith(SECOND_BODY)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
        OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret",
        OK + b"nonsense",
    ],
    ids=["said-so", "said-more", "said-nonsense"],
)
async def test_it_is_not_asked_again_where_that_could_go_wrong(answer: bytes) -> None:
    async with engine(answer, OK, OK) as (one, engines):
        assert await body_of(one, engines) == b"hi"
        assert await body_of(one, engines) == b"hi"
        assert one.connections == 2


async def test_announcements_come_before_an_answer_and_are_none() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    async with engine(hints + OK) as (one, engines):
        connection = await ask(one, engines)
        await connection.answered()
        assert (connection.status, await connection.read_all()) == (200, b"hi")
        assert "Link" not in connection.headers


async def test_a_body_without_a_length_ends_with_the_connection() -> None:
    async with engine(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it") as (one, engines):
        assert await body_of(one, engines) == b"all of it"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi",
        CHUNKED + b"2\r\nhi\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (LARGEST_HEAD_BYTES + 1) + b"\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["nothing", "half-a-head", "half-a-body", "half-a-stream", "no-http", "another-protocol", "too-large-a-head"],
)
async def test_what_is_no_whole_answer_is_said_to_be_none(answer: bytes) -> None:
    async with engine(answer) as (one, engines):
        with pytest.raises(BrokenOff):
            await body_of(one, engines)


async def test_an_engine_that_is_not_there_is_said_not_to_be() -> None:
    async with engine() as (one, engines):
        pass
    with pytest.raises(NotConnected):
        await ask(one, engines)


async def test_a_header_that_would_be_two_is_not_sent() -> None:
    async with engine(OK) as (one, engines):
        with pytest.raises(ValueError, match="end of a line"):
            await engines.ask(one.url, "/x", CIMultiDict({"X": "a\r\nAuthorization: b"}), b"", connect_s=5)
        assert not one.asked


async def test_who_waits_no_longer_is_told_so_and_the_engine_that_nobody_listens() -> None:
    async with engine(b"", OK) as (one, engines):
        connection = await ask(one, engines)
        asyncio.get_running_loop().call_soon(connection.end_waiting)
        with pytest.raises(TookTooLong):
            await connection.answered()
        assert not connection.reusable
        with pytest.raises(TookTooLong):
            await connection.read()


async def test_what_takes_longer_than_it_was_given_is_not_waited_for() -> None:
    async with engine(b"", OK) as (one, engines):
        connection = await ask(one, engines)
        connection.give(600)
        connection.give(0.01)
        with pytest.raises(TookTooLong):
            await connection.answered()


async def test_the_time_that_one_answer_was_given_does_not_end_what_comes_later() -> None:
    async with engine(OK, OK) as (one, engines):
        connection = await ask(one, engines)
        await connection.answered()  # with all there is to read: a busy machine takes longer than is given
        connection.give(0.01)
        await connection.read_all()
        connection.give(None)
        await asyncio.sleep(0.03)
        assert connection.reusable
        connection.give(0.01)
        connection.give(600)
        await asyncio.sleep(0.03)
        assert connection.reusable
