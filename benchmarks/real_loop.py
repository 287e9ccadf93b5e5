"""The whole loop on real inference without a GPU: tune, canary, promote, under live traffic, nothing emulated.

Usage: python -m benchmarks.real_loop --json OUT [--rate 20]
Serves examples/cpu/embeddings.yaml (`pip install fleetune[embed]`), runs a study with `fleetune tune --apply` while
requests go through the gateway, and waits until the rollout it started is over. Ends with 1 unless it was promoted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controlplane.cli.client import ApiClient
from controlplane.domain.errors import Unavailable
from controlplane.domain.report import LoadTestReport
from controlplane.domain.service import ServiceSpec
from controlplane.host.ports import free_port
from controlplane.reading.service_file import load_service
from loadtests.loadtest import LoadTest, run_load_test
from loadtests.send.plan import Api
from loadtests.send.runner import Generator, Progress
from loadtests.send.words import COMMON_WORDS

SERVICE = Path("examples/cpu/embeddings.yaml")
_OVER = ("promoted", "aborted", "halted", "superseded")


class Traffic:
    """Requests for embeddings through the gateway until told to stop."""

    def __init__(self, spec: ServiceSpec, rate_rps: float, url: str, folder: Path) -> None:
        self._spec, self._rate_rps, self._url, self._folder = spec, rate_rps, url, folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._reports: list[LoadTestReport] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> LoadTestReport:
        self._stop.set()
        self._thread.join()
        return self._reports[0]

    def _run(self) -> None:
        test = LoadTest(
            workload=self._spec.workload,
            rate_rps=self._rate_rps,
            url=self._url,
            model=self._spec.model.name,
            duration_s=3600,
            slos=self._spec.slos.latency,
            api=Api.EMBEDDINGS,
            words=COMMON_WORDS,
            drain_on_stop=True,
        )
        with Generator() as generator:
            self._reports.append(run_load_test(test, generator, out_dir=self._folder, watch=self._look).report)

    def _look(self, _: Progress) -> str | None:
        return "told to stop" if self._stop.is_set() else None


def main() -> int:
    options = _options()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fleetune-real-loop-") as folder:
        facts = _loop(Path(folder), options.rate)
    facts |= {"wall_s": round(time.monotonic() - began), "at": datetime.now(UTC).date().isoformat()}
    facts |= {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine()}
    options.json.write_text(json.dumps(facts, indent=1))
    print(f"{facts['rollout']['state']} after {facts['wall_s']} s", flush=True)
    return 0 if facts["rollout"]["state"] == "promoted" else 1


def _loop(folder: Path, rate_rps: float) -> dict[str, Any]:
    spec = load_service(SERVICE)
    fleetune = [sys.executable, "-m", "controlplane.cli.main"]
    where = ["-f", str(SERVICE), "--data-dir", str(folder / "data")]
    api_port, gateway_port, admin_port = _ports(3)
    ports = [f"--api-port={api_port}", f"--gateway-port={gateway_port}", f"--gateway-admin-port={admin_port}"]
    up = subprocess.Popen([*fleetune, "up", *where, *ports, "--no-dashboard", "--workers", "0"])
    api = ApiClient(url=f"http://127.0.0.1:{api_port}", key=None, data_dir=folder / "data")
    traffic = Traffic(spec, rate_rps, f"http://127.0.0.1:{gateway_port}", folder / "traffic")
    try:
        _until(lambda: any(engine["state"] == "ready" for engine in api.get("/fleet")["engines"]), 120)
        traffic.start()
        subprocess.run([*fleetune, "tune", *where, "--apply", "--json", str(folder / "study.json")], check=True)
        study = json.loads((folder / "study.json").read_text())
        if not study["study"]["recommendation"]["improvement"]:
            raise SystemExit("the study found no improvement, so nothing was rolled out")
        _until(lambda: _rollout(api).get("state") in _OVER, 900)
        time.sleep(5)  # some requests on the promoted revision alone
        report = traffic.stop()
        return compact(study, _rollout(api), report.model_dump(mode="json"))
    finally:
        up.terminate()
        up.wait()


def compact(study: dict[str, Any], rollout: dict[str, Any], traffic: dict[str, Any]) -> dict[str, Any]:
    """Return what is worth keeping of a loop: trials, verdicts, and what users saw."""
    trials = [
        {
            "kind": trial["kind"],
            "state": trial["state"],
            "flags": trial["config"]["flags"],
            "capacity_rps": (trial["capacity"] or {}).get("rps"),
            "startup_s": trial["startup_s"],
            "reason": trial["reason"],
        }
        for trial in study["trials"]
    ]
    steps = [
        {
            "weight_percent": step["weight_percent"],
            "verdict": step["analysis"]["verdict"],
            "reason": step["analysis"]["reason"],
            "canary_requests": step["analysis"]["canary"]["requests"],
        }
        for step in rollout["steps"]
        if step["analysis"]
    ]
    seen = {name: traffic[name] for name in ("rate_rps", "requests", "errors", "truncated", "attainment")}
    return {"trials": trials, "rollout": {"state": rollout["state"], "steps": steps}, "traffic": seen}


def _ports(count: int) -> list[int]:
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port("127.0.0.1", taken=found))
    return list(found)


def _rollout(api: ApiClient) -> dict[str, Any]:
    """Return the newest rollout that has a stable revision to be compared with."""
    found: list[dict[str, Any]] = [each for each in api.get("/rollouts")["items"] if each["stable"]]
    return found[0] if found else {}


def _until(holds: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not _answered(holds):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {within_s:g} s")
        time.sleep(0.5)


def _answered(holds: Callable[[], bool]) -> bool:
    try:
        return holds()
    except Unavailable:  # not up yet
        return False


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=20.0, help="Requests per second of live traffic.")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
