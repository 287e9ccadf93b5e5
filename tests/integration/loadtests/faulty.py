"""A target that misbehaves in one chosen way, on threads of the test process."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from tests.unit.loadtests.streams import VLLM_COMPLETION, chunked

GOOD = chunked([VLLM_COMPLETION])
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_EVENT = b'data: {"choices":[{"index":0,"text":"a","finish_reason":null}]}\n\n'
ONE_TOKEN = b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT)

Behaviour = Callable[[socket.socket, int], None]
"""Takes a connection on which one whole request was read, and the request's number; closes nothing."""


def good(peer: socket.socket, number: int) -> None:
    peer.sendall(GOOD)


def storm(peer: socket.socket, number: int) -> None:
    """Every third request is answered; the others get 429 and 503 in turn."""
    refusals = (
        b"HTTP/1.1 429 Slow\r\nContent-Length: 4\r\n\r\nslow",
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
    )
    peer.sendall(GOOD if number % 3 == 0 else refusals[number % 3 - 1])


def slow_loris(peer: socket.socket, number: int) -> None:
    """A byte of the response now and then, for ever."""
    for byte in HEAD * 100:
        peer.sendall(bytes([byte]))
        time.sleep(0.05)


def half_open(peer: socket.socket, number: int) -> None:
    """Accept the request and never say anything."""
    time.sleep(30)


def drip(peer: socket.socket, number: int) -> None:
    """A good stream in small pieces, as tokens come."""
    for start in range(0, len(GOOD), 90):
        peer.sendall(GOOD[start : start + 90])
        time.sleep(0.003)


def stall(peer: socket.socket, number: int) -> None:
    """One token, then comments for ever: alive, but no tokens."""
    peer.sendall(HEAD + ONE_TOKEN)
    for _ in range(600):
        peer.sendall(b"5\r\n: hm\n\r\n")
        time.sleep(0.05)


def cut(peer: socket.socket, number: int) -> None:
    """End the stream in the middle of a token."""
    peer.sendall(HEAD + ONE_TOKEN + ONE_TOKEN[:20])
    peer.shutdown(socket.SHUT_RDWR)


def reset(peer: socket.socket, number: int) -> None:
    """A connection reset before any answer."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def closes_behind() -> Behaviour:
    """Answer, say that the connection may carry another request, and reset it as that one comes."""
    answered: set[socket.socket] = set()

    def behave(peer: socket.socket, number: int) -> None:
        if peer in answered:
            reset(peer, number)
            return
        answered.add(peer)
        good(peer, number)

    return behave


def redirect(peer: socket.socket, number: int) -> None:
    peer.sendall(b"HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n")


@contextmanager
def faulty_server(
    behaviour: Behaviour, tls: ssl.SSLContext | None = None, *, models: bytes | None = None
) -> Iterator[str]:
    """Serve every POST with one behaviour and every GET with `models`, if there are any; give the URL."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    numbers = iter(range(1_000_000))
    peers: list[socket.socket] = []

    def serve(peer: socket.socket) -> None:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError), tls.wrap_socket(peer, server_side=True) if tls else peer as stream:
            peers.append(stream)
            while request := _read_request(stream):
                if request.startswith(b"GET"):
                    stream.sendall(_listing(models))
                else:
                    behaviour(stream, next(numbers))

    def accept() -> None:
        with suppress(OSError):
            while True:
                peer, _ = listener.accept()
                threading.Thread(target=serve, args=(peer,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for each in (listener, *peers):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # a thread that waits on it would keep it open
            each.close()


@contextmanager
def full_listener() -> Iterator[str]:
    """Listen, but with no room for another connection: the kernel leaves those who try without an answer."""
    with ExitStack() as held:
        listener = held.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = held.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def _listing(models: bytes | None) -> bytes:
    if models is None:
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(models), models)


def _read_request(peer: socket.socket) -> bytes:
    """Return one whole request, nothing when the peer closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := peer.recv(65536)):
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    _, _, length = head.lower().partition(b"content-length:")
    while len(body) < int(length.split(b"\r\n")[0] or 0):
        if not (more := peer.recv(65536)):
            return b""
        body += more
    return head + b"\r\n\r\n" + body
