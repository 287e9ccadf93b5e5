"""A whole installation for a test: `fleetune up` as a child process on emulated GPUs, its API and its live traffic."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from controlplane.adapters.fleet_processes.host import MARK
from controlplane.adapters.gateway.records_spool import SpooledRecords
from controlplane.cli.client import ApiClient
from controlplane.cli.traffic import LiveTraffic, Traffic
from controlplane.domain.base import RevisionId
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.errors import Unavailable
from controlplane.host.ports import free_port
from controlplane.reading.service_file import parse_service
from tests.e2e.loop.conftest import HANGS_S

SERVICE: dict[str, Any] = {
    "name": "chat",
    "model": {"name": "llama-70b", "path": "llama-70b"},
    "engine": {
        "kind": "emulator",
        "version": "0.26",
        # Two sequences at once are far too few: any study must find better. Few pieces of an answer and a limit far
        # above what an emulator is late by keep that true on a machine that is busy with other things.
        "flags": {"max-model-len": 8192, "quantization": "fp8", "max-num-seqs": 2, "stream-interval": 8},
        "emulator": {"startup_s": 0.3, "time_lapse": 4, "max_lag_ms": 1000},
    },
    "gpus": {"type": "H200", "count": 4, "price_usd_per_gpu_hour": 3.5},
    "workload": {
        "kind": "synthetic",
        "prompt_tokens": {"mean": 300, "cv": 0.3},
        "output_tokens": {"mean": 24, "cv": 0.3},
        "rate_rps": 2,
        "seed": 5,
    },
    "slos": {
        "latency": [{"metric": "ttft_ms", "percentile": 90, "limit_ms": 3000}],
        "max_error_ratio": 0.02,
        "target_qps": 6,
    },
    "tuning": {
        "space": {"max-num-seqs": {"choices": [2, 8]}},
        "budget": {"engine_starts": 5},
        "levels": {"min_s": 8, "max_s": 20, "longest_s": 20, "warmup_s": 0, "precision": 0.4},
    },
    "rollout": {
        # However slow the machine, and however long a killed controller takes to come back: every step goes on until
        # there is a verdict.
        "steps": [{"weight_percent": weight, "min_samples": 5, "max_s": 900} for weight in (25, 50, 100)],
        "miss_ratio_margin": 0.5,
        "error_ratio_margin": 0.5,
        "match_load": False,
        "on_unproven_load": "proceed",
    },
    "gateway": {"stall_timeout_s": 15},  # so long a step lasts at least
    "initial_replicas": 1,
}


class Installation:
    """Handles on a running installation."""

    def __init__(self, folder: Path, service: dict[str, Any], *, workers: int = 1, options: Sequence[str] = ()) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.spec = parse_service(yaml.safe_dump(service), source="the test's service")
        self.ports = {name: free_port() for name in ("api", "gateway", "gateway-admin", "dashboard")}
        api_url = f"http://127.0.0.1:{self.ports['api']}"
        self.api = ApiClient(url=api_url, key=None, data_dir=self.data_dir, timeout_s=HANGS_S / 3)
        self._workers, self._options = workers, options
        self._file = folder / "service.yaml"
        self._file.write_text(yaml.safe_dump(service))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['gateway']}"

    def up(self) -> None:
        """Start, and wait until the first revision serves."""
        command = [sys.executable, "-m", "controlplane.cli.main", "up", "-f", str(self._file), "--no-dashboard"]
        command += [f"--workers={self._workers}", *self._options]
        command += ["--data-dir", str(self.data_dir), *(f"--{name}-port={port}" for name, port in self.ports.items())]
        with (self.folder / "up.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self.until("the service is ready", lambda: self.ready_engines() >= self.spec.initial_replicas)

    def down(self) -> int:
        """Stop as Ctrl-C does and return the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=HANGS_S / 3)

    def kill(self, name: str) -> None:
        """kill -9 one of the supervised processes and wait until it runs again."""
        before = self._status()[name]["pid"]
        os.kill(before, signal.SIGKILL)
        self.until(f"{name} is started again", lambda: self._status()[name]["pid"] != before)

    def serves(self) -> bool:
        """Say whether the gateway takes requests; one that was killed does not while it starts again."""
        try:
            return httpx.get(f"{self.gateway_url}/ready", trust_env=False, verify=False).is_success
        except httpx.TransportError:
            return False

    def ready_engines(self) -> int:
        return sum(1 for engine in self.engines() if engine["state"] == "ready")

    def engines(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.get("/fleet")["engines"]
        return found

    def rollout(self) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get("/rollouts", service=self.spec.name)["items"][0]
        return found

    def until(self, what: str, holds: Callable[[], bool], within_s: float = HANGS_S / 3) -> None:
        """Wait until something holds, and say what did not."""
        deadline = time.monotonic() + within_s
        while not self._holds(holds):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {within_s:g} s: {what}\n{self.tell()}")
            time.sleep(0.1)

    def tell(self) -> str:
        """Return the ends of all logs, for the message of a failed test."""
        logs = [self.folder / "up.log", *sorted((self.data_dir / "logs").glob("*.log"))]
        return "\n".join(f"== {log.name}\n{log.read_text()[-1500:]}" for log in logs if log.exists())

    def traffic(self, rate_rps: float) -> LiveTraffic:
        """Return live traffic through the gateway, not yet started."""
        traffic = Traffic(
            workload=self.spec.workload,
            rate_rps=rate_rps,
            url=self.gateway_url,
            model=self.spec.model.name,
            time_lapse=self.spec.engine.time_lapse,
        )
        return LiveTraffic(traffic, Path(tempfile.mkdtemp(prefix="traffic-", dir=self.folder)))

    def records(self, revision: str) -> Sequence[GatewayRecord]:
        """Return every request that the gateway sent to a revision."""
        since = datetime.now(UTC) - timedelta(hours=1)
        return SpooledRecords(self.data_dir).read(self.spec.service, since=since, revision=RevisionId(revision))

    def engine_processes(self) -> set[int]:
        """Return every process on this machine that an engine of this installation left, wanted or not."""
        return {process.pid for process in psutil.process_iter() if self._is_engine(process)}

    def _is_engine(self, process: psutil.Process) -> bool:
        try:
            mark = process.environ().get(MARK, "")
            return str(self.data_dir) in mark and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            return False

    def _status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads((self.data_dir / "processes.json").read_text())
        return status

    def _holds(self, holds: Callable[[], bool]) -> bool:
        try:
            return holds()
        except (Unavailable, IndexError):  # the API is starting again; nothing was made yet
            return False


@contextmanager
def installation(folder: Path, *, workers: int = 1, **changes: Any) -> Iterator[Installation]:
    """Run an installation; whatever happens, nothing of it is left running."""
    running = Installation(folder, SERVICE | changes, workers=workers)
    try:
        running.up()
        yield running
    finally:
        if running.process is not None and running.process.poll() is None:
            running.down()
        left = running.engine_processes()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, f"engines left behind: {left}"
