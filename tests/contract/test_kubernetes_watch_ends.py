"""A watch ends as soon as its owner closes it, also one whose server says nothing: by HTTP and by TLS."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from controlplane.adapters.fleet_kubernetes.door import Place, open_door
from controlplane.adapters.fleet_kubernetes.watched import Watched, end
from tests.contract.kubernetes_servers import wait
from tests.integration.loadtests.tls import new_authority
from tests.threads import left_of, watchers

PODS = Place("api/v1", "pods", "default")
EMPTY = json.dumps({"metadata": {"resourceVersion": "5"}, "items": []}).encode()


class Silent(ThreadingHTTPServer):
    """An API server where there is nothing and nothing happens: it takes every watch, without even a bookmark."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.watches = 0
        self.over = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    server: Silent
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.send_response(200)
        if "watch=true" not in self.path:
            self.send_header("Content-Length", str(len(EMPTY)))
            self.end_headers()
            self.wfile.write(EMPTY)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.server.watches += 1
        self.server.over.wait()
        self.close_connection = True


@pytest.fixture(params=["http", "https"])
def silent(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Silent, Path]]:
    """A silent server and a kubeconfig of it."""
    server, of_server = Silent(), {}
    if request.param == "https":
        authority = new_authority(tmp_path)
        server.socket = authority.server.wrap_socket(server.socket, server_side=True)
        of_server = {"certificate-authority": str(authority.ca_file)}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    url = f"{request.param}://127.0.0.1:{server.server_port}"
    yield server, _kubeconfig(tmp_path / "config", {"server": url, **of_server})
    server.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


def _kubeconfig(path: Path, cluster: dict[str, str]) -> Path:
    found = {
        "current-context": "it",
        "clusters": [{"name": "it", "cluster": cluster}],
        "users": [{"name": "it", "user": {"token": "none"}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    }
    path.write_text(yaml.safe_dump(found))
    return path


def test_a_watch_whose_server_is_silent_ends_with_its_owner(silent: tuple[Silent, Path]) -> None:
    server, kubeconfig = silent
    before = watchers()
    watched = Watched(open_door(kubeconfig), PODS)
    assert list(watched.items()) == []
    wait(lambda: server.watches == 1)
    end(watched)
    assert left_of(before) == []
    assert server.watches == 1
