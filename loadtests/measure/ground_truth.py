"""A server whose latencies are known: the first token a fixed time after the request came, the others evenly after it.

`python -m loadtests.measure.ground_truth --truth FILE` prints its port and, on SIGTERM, writes what it did: per request
the kernel's stamp of its arrival and the instants its first and last tokens were handed to the kernel (monotonic ns).
One epoll, one heap, plain sockets: it must be more exact than what it judges.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import select
import signal
import socket
import sys
import time
from array import array
from pathlib import Path

from controlplane.host.ports import loopback
from loadtests.send.client.connection import arrival
from loadtests.send.client.timer import Alarm

_SO_TIMESTAMPNS = 35
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
_MODELS = b'{"object":"list","data":[{"id":"truth","object":"model","created":1700000000,"owned_by":"fleetune"}]}'
_CHUNK = (
    b'data: {"id":"cmpl-4f6b2f0a53c94d3c8d3f9f4a7a4c2b11","object":"text_completion","created":1700000000,'
    b'"model":"truth","choices":[{"index":0,"text":" word","logprobs":null,"finish_reason":null,"stop_reason":null}],'
    b'"usage":null}\n\n'
)


def _framed(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


_TOKEN = _framed(_CHUNK)


class _Peer:
    __slots__ = ("buffer", "fd", "first_ns", "left", "sock", "start_ns", "total")

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.fd, self.buffer = sock, sock.fileno(), b""
        self.left = self.total = self.start_ns = self.first_ns = 0


class TruthServer:
    """Serves until `stopping` is set. Latencies in seconds; `rows` has (arrival, first, last, tokens) per request."""

    def __init__(self, *, first_s: float, gap_s: float, host: str, port: int, shared: bool) -> None:
        self._first_ns, self._gap_ns = int(first_s * 1e9), int(gap_s * 1e9)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=4096, reuse_port=shared)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._poller = select.epoll()
        self._alarm = Alarm()
        self._poller.register(self._listener.fileno(), select.EPOLLIN)
        self._poller.register(self._alarm.fd, select.EPOLLIN)
        self._peers: dict[int, _Peer] = {}
        self._due: list[tuple[int, int, _Peer]] = []
        self._order = 0
        self.rows = array("q")
        self.stopping = False

    def serve(self) -> None:
        while not self.stopping:
            if self._due:
                self._alarm.set(self._due[0][0])
            for fd, _ in self._poller.poll(0.2):
                self._ready(fd)
                self._send_due()
            self._send_due()

    def close(self) -> None:
        for peer in self._peers.values():
            peer.sock.close()
        self._listener.close()
        self._alarm.close()
        self._poller.close()

    def _ready(self, fd: int) -> None:
        if fd == self._alarm.fd:
            self._alarm.silence()
        elif fd == self._listener.fileno():
            self._accept()
        elif (peer := self._peers.get(fd)) is not None:
            self._receive(peer)

    def _accept(self) -> None:
        for _ in range(64):
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            peer = self._peers[sock.fileno()] = _Peer(sock)
            self._poller.register(peer.fd, select.EPOLLIN)

    def _receive(self, peer: _Peer) -> None:
        try:
            data, ancillary, _, _ = peer.sock.recvmsg(262144, socket.CMSG_SPACE(16))
        except ConnectionError:
            data, ancillary = b"", []
        if not data:
            self._forget(peer)
            return
        came_ns, _ = arrival(ancillary)
        peer.buffer += data
        if not peer.buffer.startswith(b"POST") and b"\r\n\r\n" in peer.buffer:
            self._answer_question(peer)
            return
        tokens = _wanted_tokens(peer.buffer)
        if tokens is None:
            return
        peer.buffer = b""
        peer.start_ns, peer.left, peer.total, peer.first_ns = came_ns, tokens, tokens, 0
        self._push(came_ns + self._first_ns, peer)

    def _answer_question(self, peer: _Peer) -> None:
        """Answer what is no request for tokens: clients ask for health and models first."""
        body = b"" if peer.buffer.startswith(b"HEAD") else _MODELS
        peer.buffer = b""
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_MODELS)
        peer.sock.send(head + body)

    def _push(self, at_ns: int, peer: _Peer) -> None:
        self._order += 1
        heapq.heappush(self._due, (at_ns, self._order, peer))

    def _send_due(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic_ns():
            due_ns, _, peer = heapq.heappop(self._due)
            if peer.fd in self._peers:
                self._send_token(due_ns, peer)

    def _send_token(self, due_ns: int, peer: _Peer) -> None:
        now_ns = time.monotonic_ns()
        is_first, is_last = peer.left == peer.total, peer.left == 1
        data = (_HEAD if is_first else b"") + _TOKEN + (_tail(peer.total) if is_last else b"")
        try:
            peer.sock.send(data)
        except (BlockingIOError, ConnectionError):
            self._forget(peer)
            return
        if is_first:
            peer.first_ns = now_ns
        peer.left -= 1
        if is_last:
            self.rows.extend((peer.start_ns, peer.first_ns, now_ns, peer.total))
        else:
            self._push(due_ns + self._gap_ns, peer)

    def _forget(self, peer: _Peer) -> None:
        self._poller.unregister(peer.fd)
        del self._peers[peer.fd]
        peer.sock.close()


def _wanted_tokens(data: bytes) -> int | None:
    """Return max_tokens once a whole request is there, None before."""
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return None
    _, _, length = head.lower().partition(b"content-length:")
    if len(body) < int(length.split(b"\r\n", 1)[0] or 0):
        return None
    _, _, tokens = body.rpartition(b'"max_tokens":')
    digits = tokens.strip()[:7].split(b",")[0].split(b"}")[0]
    return max(1, int(digits)) if digits.strip().isdigit() else 1


def _tail(tokens: int) -> bytes:
    usage = json.dumps(
        {
            "id": "cmpl",
            "object": "text_completion",
            "created": 1700000000,
            "model": "truth",
            "choices": [],
            "usage": {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1},
        }
    ).encode()
    return _framed(b"data: " + usage + b"\n\n") + _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default=loopback())
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--shared", action="store_true", help="let other such servers listen on the same port")
    parser.add_argument("--first-ms", type=float, default=50.0)
    parser.add_argument("--gap-ms", type=float, default=10.0)
    parser.add_argument("--core", type=int, default=None, help="pin to this core")
    parser.add_argument("--truth", type=Path, required=True, help="file for what really happened, written on SIGTERM")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    server = TruthServer(
        first_s=options.first_ms / 1e3,
        gap_s=options.gap_ms / 1e3,
        host=options.host,
        port=options.port,
        shared=options.shared,
    )

    def stop(*_: object) -> None:
        server.stopping = True

    signal.signal(signal.SIGTERM, stop)
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    server.serve()
    with options.truth.open("wb") as file:
        server.rows.tofile(file)
    server.close()


if __name__ == "__main__":
    main()
