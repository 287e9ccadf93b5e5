"""Requests and answers on the wire: JSON bodies, refusals as `Status`, watches as chunks."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from tests.fakes.kubernetes.errors import ApiError
from tests.fakes.kubernetes.schemas import Object


class Api(Protocol):
    """What answers."""

    is_out: bool

    def answer(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, Object | str]: ...
    def watch(self, url: str, headers: Mapping[str, str]) -> Iterator[Object]: ...


class Wire(ThreadingHTTPServer):
    """Listens on a free port of loopback, with TLS where it has a context, and lets `api` answer."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, api: Api, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.api = api
        if tls is not None:  # shaken hands by the thread that answers: a client that says nothing keeps nobody waiting
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: Wire
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        pass

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.api.is_out:
            self.close_connection = True
            return
        try:
            if self.command == "GET" and "watch=true" in self.path.lower():
                self._stream(self.server.api.watch(self.path, dict(self.headers.items())))
            else:
                self._say(*self.server.api.answer(self.command, self.path, body, dict(self.headers.items())))
        except ApiError as error:
            said = f"{error.message}\n" if error.plain else dict(error.status())
            self._say(error.code, said, error.headers)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815

    def _say(self, code: int, answer: Object | str, headers: Mapping[str, str] | None = None) -> None:
        is_text = isinstance(answer, str)
        content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain" if is_text else "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, events: Iterator[Object]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for event in events:
                self._chunk(json.dumps(event).encode() + b"\n")
        except ApiError as error:  # said within the stream, as a server does to a watch that runs
            self._chunk(json.dumps({"type": "ERROR", "object": error.status()}).encode() + b"\n")
        self._chunk(b"")
        self.close_connection = True

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
