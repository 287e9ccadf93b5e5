"""A canary between two revisions of a real vLLM under live traffic: start, judge at 5, 20 and 100 %, promote.

Usage: python -m benchmarks.h200.canary --data-dir DIR --json OUT [--study conv.json]
Two engines of one replica each. The new revision is the study's recommendation; without a study, fp8 weights.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from controlplane.cli.client import ApiClient
from controlplane.cli.traffic import LiveTraffic, Traffic
from controlplane.domain.errors import Unavailable
from controlplane.reading.service_file import load_service

SERVICE = Path("examples/h200/canary-8b.yaml")
RATE_RPS = 16.0


def main() -> None:
    options = _options()
    spec = load_service(SERVICE)
    command = [sys.executable, "-m", "controlplane.cli.main", "up", "-f", str(SERVICE), "--no-dashboard", "--gpus", "2"]
    up = subprocess.Popen([*command, "--data-dir", str(options.data_dir)])
    api = ApiClient(url="http://127.0.0.1:8700", key=None, data_dir=options.data_dir)
    traffic = LiveTraffic(
        Traffic(spec.workload, RATE_RPS, "http://127.0.0.1:8000", spec.model.name, time_lapse=1.0),
        options.data_dir / "traffic",
    )
    try:
        _until(lambda: any(engine["state"] == "ready" for engine in api.get("/fleet")["engines"]), 400)
        print("stable serves", flush=True)
        traffic.start()
        flags = dict(spec.engine.flags) | _winner(options.study)
        api.post("/rollouts", {"service": spec.name, "flags": flags, "replicas": 1})
        _until(lambda: _rollout(api)["state"] in ("promoted", "aborted", "halted"), 600)
        time.sleep(5)
        report = traffic.stop()
        facts = {"rollout": _rollout(api), "traffic": report.model_dump(mode="json"), "engines": api.get("/fleet")}
        facts["events"] = api.get("/events", limit=200)["items"]
        options.json.write_text(json.dumps(facts, indent=1))
        print(f"{facts['rollout']['state']}: {report.requests} requests, {report.errors} errors", flush=True)
    finally:
        up.terminate()
        up.wait()


def _winner(study: Path | None) -> dict[str, Any]:
    if study is not None and study.exists():
        found = json.loads(study.read_text())["study"]["recommendation"]
        if found and found["improvement"]:
            flags: dict[str, Any] = found["config"]["flags"]
            return flags
    return {"quantization": "fp8"}


def _rollout(api: ApiClient) -> dict[str, Any]:
    found: dict[str, Any] = api.get("/rollouts")["items"][0]
    return found


def _until(holds: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not _holds(holds):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {within_s:g} s")
        time.sleep(0.5)


def _holds(holds: Callable[[], bool]) -> bool:
    try:
        return holds()
    except (Unavailable, IndexError):
        return False


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--study", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
