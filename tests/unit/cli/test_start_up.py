"""What the command line and the long-running processes do without: an import costs every start of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import controlplane
from controlplane import settings as installation
from controlplane.adapters.store_sql.store import open_store
from controlplane.cli.lazy import Lazy, load
from controlplane.cli.main import COMMANDS
from controlplane.settings import Settings
from tests.builders_serving import a_service

HEAVY = {"scipy", "pandas", "plotly", "optuna", "sqlalchemy", "numba", "streamlit", "locust", "fastapi", "alembic"}
HEAVY_WITHOUT_SERVER = HEAVY - {"sqlalchemy", "alembic", "fastapi"} | {"numpy", "kubernetes"}
HEAVY_FOR_SERVERS = HEAVY - {"sqlalchemy", "alembic", "fastapi"} | {"tokenizers", "kubernetes", "numpy"}

SAY_MODULES = "print('MODULES', *sorted({name.partition('.')[0] for name in sys.modules}))"
COMMAND = f"""
import sys
from controlplane.cli.main import app
try:
    app(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code, ended.code
{SAY_MODULES}
"""
API = f"""
import sys
from pathlib import Path
from typing import Any
from controlplane.wiring import http_api
from controlplane.settings import Settings
http_api.build_app(Settings(data_dir=Path(sys.argv[1])))
{SAY_MODULES}
"""
CONTROLLER = f"""
import sys
from pathlib import Path
from typing import Any
from controlplane.wiring import control
from controlplane.wiring.shared import Shared
from controlplane.settings import Settings
settings = Settings(data_dir=Path(sys.argv[1]))
control.controller_pass(settings, Shared(settings), control.record_feed(settings))()
{SAY_MODULES}
"""
PROCESSES = f"""
import sys
import controlplane.cli.installation.processes
{SAY_MODULES}
"""
_EMULATED = """
import sys
import controlplane.emulator.{module}
print('MODULES', *sorted(sys.modules))
"""
EMULATOR = _EMULATED.format(module="process")
EMULATOR_THAT_REFUSES = _EMULATED.format(module="main")


class _Empty(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"items": [], "engines": [], "free_gpus": 2, "free_gpu_indices": [0, 1], "limit": 1}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Empty) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def imported(script: str, *args: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", script, *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("asked", ["--help", "study --help", "rollout start --help"])
def test_help_imports_nothing_heavy(asked: str) -> None:
    assert not imported(COMMAND, *asked.split()) & HEAVY


@pytest.mark.parametrize("noun", ["study", "service", "rollout", "fleet", "schedule", "event"])
def test_a_list_from_a_server_imports_nothing_heavy(noun: str, server: str) -> None:
    assert not imported(COMMAND, noun, "list", "--api", server) & HEAVY


@pytest.mark.parametrize("asked", ["study list", "service show chat"])
def test_what_is_as_stored_is_said_without_a_server_or_a_library_of_one(asked: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    installation.save(settings)
    store = open_store(settings.database)
    store.save_service(a_service(), 0)
    store.close()
    assert not imported(COMMAND, *asked.split(), "--data-dir", str(tmp_path)) & (HEAVY | {"httpx", "asyncio"})


@pytest.mark.parametrize("noun", ["fleet", "key"])
def test_a_list_without_a_server_imports_only_what_answers_it(noun: str, tmp_path: Path) -> None:
    installation.save(Settings(data_dir=tmp_path))
    assert not imported(COMMAND, noun, "list", "--data-dir", str(tmp_path)) & HEAVY_WITHOUT_SERVER


@pytest.mark.parametrize("script", [API, CONTROLLER], ids=["api", "controller"])
def test_a_server_of_lists_and_passes_imports_no_search_no_twin_and_no_load_generator(
    script: str, tmp_path: Path
) -> None:
    assert not imported(script, str(tmp_path)) & HEAVY_FOR_SERVERS


def test_an_emulator_imports_nothing_of_what_a_service_may_say_and_compiles_nothing() -> None:
    domain = {"controlplane.domain.service", "controlplane.domain.rollouts"}
    assert not imported(EMULATOR) & (domain | {"optuna", "numba", "scipy", "numpy"})


def test_an_emulator_imports_what_serves_only_once_it_starts() -> None:
    assert not imported(EMULATOR_THAT_REFUSES) & {"aiohttp", "prometheus_client", "asyncio"}


def test_a_supervised_process_imports_no_arrays_and_no_web_server_before_it_knows_which_it_is() -> None:
    assert not imported(PROCESSES) & (HEAVY_FOR_SERVERS | {"uvicorn"})


@pytest.mark.parametrize("package", ["controlplane", "tuner", "loadtests", "dashboards"])
def test_nothing_that_runs_takes_scipys_statistics(package: str) -> None:
    """Half a second of CPU at every start of a worker, for what `scipy.special` has too."""
    files = (Path(controlplane.__file__).parents[1] / package).rglob("*.py")
    assert [str(file) for file in files if re.search(r"^\s*(from|import) scipy\.stats", file.read_text(), re.M)] == []


@pytest.mark.parametrize("command", COMMANDS, ids=[each.name for each in COMMANDS])
def test_every_listed_command_is_there_and_says_what_it_is_for(command: Lazy) -> None:
    found = load(command)
    assert (found.name, bool(found.help), bool(command.help)) == (command.name, True, True)
