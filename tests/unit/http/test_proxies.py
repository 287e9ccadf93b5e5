"""What is asked on this machine, or by a load test, never goes through a proxy of the environment: it carries keys."""

from __future__ import annotations

import ast
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from controlplane.cli.client import ApiClient
from controlplane.cli.load_target import ask
from controlplane.domain.errors import Unavailable
from loadtests.loadtest import LoadTest

ROOT = Path(__file__).parents[3]
CALLS = {f"httpx.{name}" for name in ("get", "post", "put", "delete", "request", "stream", "Client", "AsyncClient")}
ODD = [
    {"ALL_PROXY": "socks5://127.0.0.1:9"},
    {"HTTP_PROXY": "http://127.0.0.1:9"},
    {"NO_PROXY": "localhost,[::1]"},
    {"all_proxy": "nonsense"},
]


class _Models(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"data": [{"id": "m", "max_model_len": 4096}], "items": []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Models) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in CALLS:
            yield node


def test_every_call_and_client_says_whether_it_trusts_the_environment() -> None:
    silent, seen = [], 0
    for package in ("controlplane", "loadtests", "tuner", "dashboards"):
        for path in (ROOT / package).rglob("*.py"):
            for call in _calls(ast.parse(path.read_text())):
                seen += 1
                if not {"trust_env", "transport"} & {word.arg for word in call.keywords}:
                    silent.append(f"{path.relative_to(ROOT)}:{call.lineno}")
    assert seen >= 5
    assert silent == []


def test_what_asks_engines_again_and_again_reads_no_certificates_for_a_plain_address() -> None:
    for path in (ROOT / "controlplane/adapters/fleet_processes").rglob("*.py"):
        for call in _calls(ast.parse(path.read_text())):
            assert "verify" in {word.arg for word in call.keywords}, f"{path.name}:{call.lineno}"


@pytest.mark.parametrize("environment", ODD, ids=str)
def test_a_load_test_asks_its_target_itself(
    url: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (
        ask(LoadTest(workload=None, url=url, model="m", api_key="secret", rate_rps=1, duration_s=1)).contexts["m"]
        == 4096
    )


@pytest.mark.parametrize("environment", ODD, ids=str)
def test_the_command_line_asks_a_server_of_this_machine_itself(
    url: str, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ApiClient(url=url, key="secret", data_dir=tmp_path).get("/services")["items"] == []


def test_a_server_elsewhere_is_asked_through_the_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match=r"no answer from http://elsewhere\.invalid"):
        ApiClient(url="http://elsewhere.invalid", key=None, data_dir=tmp_path).get("/services")
