"""What is made of a Prometheus that is none, is slow or is not there."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from controlplane.adapters.metrics_prometheus import PrometheusMetrics
from controlplane.domain.errors import Unavailable
from controlplane.host.ports import free_port

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def answering() -> Iterator[Callable[[int, bytes], str]]:
    """Start a server that answers everything alike, as a proxy before a dead Prometheus does."""
    servers: list[tuple[HTTPServer, Thread]] = []

    def start(status: int, body: bytes) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body"),
    [(400, b"bad"), (404, b"{}"), (200, b"<html>"), (200, b"{}"), (200, b'{"data": null}'), (200, b"[]")],
)
def test_what_is_no_prometheus_is_an_error_that_names_it(
    answering: Callable[[int, bytes], str], status: int, body: bytes
) -> None:
    url = answering(status, body)
    with pytest.raises(Unavailable, match=f"no answer from Prometheus at {url}"):
        PrometheusMetrics(url, clock=lambda: NOW).read("chat")


def test_a_prometheus_that_is_slow_is_an_error_within_its_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, says nothing
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unavailable, match=r"read timeout=0\.2\b"):
            PrometheusMetrics(url, clock=lambda: NOW, timeout_s=0.2).read("chat")


def test_a_prometheus_that_is_not_there_is_an_error_that_names_it() -> None:
    port = free_port()
    with pytest.raises(Unavailable, match=f"127.0.0.1:{port}"):
        PrometheusMetrics(f"http://127.0.0.1:{port}", clock=lambda: NOW).read("chat")
