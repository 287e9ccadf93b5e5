"""Fetching keys: what does not come, comes too large, or comes from elsewhere, is said and breaks nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from controlplane.domain.errors import Unavailable
from controlplane.tokens.fetch import LARGEST_BYTES, fetch_keys


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response({"/moved": 302, "/none": 404}.get(self.path, 200))
        self.send_header("Location", "/keys")
        self.end_headers()
        self.wfile.write(b"x" * (LARGEST_BYTES + 1 if self.path == "/large" else 5))

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_keys_come_as_they_are(url: str) -> None:
    assert fetch_keys(f"{url}/keys", 240) == b"xxxxx"


@pytest.mark.parametrize("path", ["/moved", "/none", "/large"])
def test_other_answers_are_none(url: str, path: str) -> None:
    with pytest.raises(Unavailable):
        fetch_keys(url + path, 240)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1/", "https://", "https://a b/", "http://[::1/", "https://x:99999999/", "nothing"]
)
def test_an_address_that_leads_nowhere_is_unavailable(address: str) -> None:
    with pytest.raises(Unavailable):
        fetch_keys(address, 240)
