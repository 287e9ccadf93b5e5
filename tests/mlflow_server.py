"""A real MLflow server for tests, on SQLite: `mlflow-skinny` carries it, and what it needs is here anyway."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from controlplane.host.ports import free_port

START_S = 240.0
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",  # of this process too: a loaded machine is no dead server
}


class MlflowServer:
    """What a team does with its MLflow."""

    def __init__(self, url: str) -> None:
        from mlflow.tracking import MlflowClient

        self.url = url
        self.client: Any = MlflowClient(tracking_uri=url, registry_uri=url)

    def create(self, name: str) -> None:
        """Register a model without versions."""
        self.client.create_registered_model(name)

    def add(self, name: str, source: str, *, tags: Mapping[str, str] | None = None) -> str:
        """Add a version; returns its number."""
        if not self.client.search_registered_models(f"name = '{name}'"):
            self.create(name)
        run = source.split("/")[1] if source.startswith("runs:/") else None
        given = {"run_id": run, "tags": dict(tags or {}), "await_creation_for": 0}
        made = self.client.create_model_version(name, source, **given)
        return str(made.version)

    def keep(self, files: Mapping[str, bytes]) -> str:
        """Log files with a run of their own; returns what to call them by."""
        run = self.client.create_run("0").info
        with TemporaryDirectory() as folder:
            for path, content in files.items():
                local = Path(folder) / path
                local.parent.mkdir(parents=True, exist_ok=True)
                local.write_bytes(content)
                self.client.log_artifact(run.run_id, str(local), path.rpartition("/")[0] or None)
        return f"runs:/{run.run_id}"


@contextmanager
def mlflow_server(folder: Path) -> Iterator[MlflowServer]:
    """Run a server until the block ends."""
    os.environ.update(_QUIET)
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder)]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}", process, folder / "server.log")
        yield MlflowServer(f"http://127.0.0.1:{port}")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", trust_env=False, verify=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise AssertionError(f"MLflow did not start: {log.read_text()[-2000:]}")
