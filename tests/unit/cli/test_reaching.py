"""Where a question goes: to the installation's own api while it is up; never into an empty folder."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from controlplane.cli.client import ApiClient
from controlplane.cli.main import app
from controlplane.domain.errors import InvalidInput, Unavailable
from controlplane.host.ports import free_port
from controlplane.host.processes import this_process
from controlplane.settings import Settings, save
from tests.unit.cli.test_start_up import COMMAND, HEAVY, imported

SECRET = "of-the-folder"


class _Api(BaseHTTPRequestHandler):
    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Authorization"]))
        body = json.dumps({"items": [], "limit": 1}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def api() -> Iterator[HTTPServer]:
    kind = type("_Asked", (_Api,), {"asked": []})
    with HTTPServer(("127.0.0.1", 0), kind) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield listening
        listening.shutdown()
        thread.join()


def up(folder: Path, port: int) -> None:
    """Leave what `fleetune up` leaves while it runs: this process stands for it."""
    settings = Settings(data_dir=folder, api_port=port)
    save(settings)
    settings.operator_key_file.write_text(SECRET)
    (folder / "processes.json").write_text(json.dumps({"supervisor": this_process().model_dump()}))


def asked(api: HTTPServer) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = api.RequestHandlerClass.asked  # type: ignore[attr-defined]
    return found


def test_while_it_is_up_its_own_api_is_asked_with_the_key_of_the_folder(tmp_path: Path, api: HTTPServer) -> None:
    up(tmp_path, api.server_port)
    assert not imported(COMMAND, "study", "list", "--data-dir", str(tmp_path)) & HEAVY
    assert asked(api) == [("/api/v1/studies?limit=20", f"Bearer {SECRET}")]


def test_another_server_on_its_port_is_never_given_the_key(tmp_path: Path, api: HTTPServer) -> None:
    up(tmp_path, api.server_port)
    (tmp_path / "processes.json").unlink()  # it is down: whoever listens there is somebody else
    done = CliRunner().invoke(app, ["study", "list", "--data-dir", str(tmp_path)])
    assert (done.exit_code, "no study yet" in done.output) == (0, True)
    assert not asked(api)


def test_while_its_api_is_started_again_the_store_is_read_here(tmp_path: Path) -> None:
    up(tmp_path, free_port())
    done = CliRunner().invoke(app, ["study", "list", "--data-dir", str(tmp_path)])
    assert (done.exit_code, "no study yet" in done.output) == (0, True)


@pytest.mark.parametrize(
    "words",
    [("study", "list"), ("rollout", "show", "ro-1"), ("status",), ("load", "top-up", "chat", "--to", "2")],
    ids=" ".join,
)
def test_in_a_folder_without_an_installation_nothing_is_made_and_the_next_step_is_said(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    done = CliRunner().invoke(app, [*words, "--data-dir", str(tmp_path)])
    assert (done.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert "nothing was ever brought up there" in done.output
    assert "fleetune up -f service.yaml" in done.output


@pytest.mark.parametrize("url", ["nonsense", "ftp://host", "http://", "http://host:port"])
def test_what_is_no_url_of_an_api_is_refused_as_that(url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is no URL of an API") as refused:
        ApiClient(url=url, key=None, data_dir=tmp_path).get("/status")
    assert refused.value.allowed == "http://HOST:PORT or https://HOST:PORT"


def test_an_api_that_is_not_there_is_said_with_where_to_look(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="Connection refused") as gone:
        ApiClient(url=f"http://127.0.0.1:{free_port()}", key=None, data_dir=tmp_path).get("/status")
    assert "fleetune doctor" in gone.value.allowed
