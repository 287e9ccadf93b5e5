"""Two canaries of a real vLLM under live traffic, load-matched: a good one, then one that collapses under load.

Usage: python -m benchmarks.h200.canary --data-dir DIR --json OUT [--study conv.json] [--only-bad]
One replica each. The good revision is the study's recommendation; without a study, fp8 weights. The other takes four
sequences at once: it answers one user as well as any, and holds a quarter of the load it is to carry.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.h200.installed import install, parser
from controlplane.cli.client import ApiClient
from controlplane.cli.traffic import LiveTraffic, Traffic
from controlplane.domain.errors import Unavailable
from controlplane.domain.service import ServiceSpec
from controlplane.reading.service_file import load_service

SERVICE = Path("examples/h200/canary-8b.yaml")
RATE_RPS = 6.0
COLLAPSES = {"max-num-seqs": 4}


def main() -> None:
    options = _options()
    spec = load_service(options.file)
    up, ports = install(options.file, options.data_dir)
    api = ApiClient(url=f"http://127.0.0.1:{ports['api']}", key=None, data_dir=options.data_dir)
    traffic = LiveTraffic(
        Traffic(spec.workload, RATE_RPS, f"http://127.0.0.1:{ports['gateway']}", spec.model.name, time_lapse=1.0),
        options.data_dir / "traffic",
    )
    try:
        until(lambda: any(engine["state"] == "ready" for engine in api.get("/fleet")["engines"]), 400)
        print("stable serves", flush=True)
        traffic.start()
        asked = [COLLAPSES] if options.only_bad else [_winner(options.study), COLLAPSES]
        ended = [_roll_out(api, spec, flags) for flags in asked]
        time.sleep(5)
        report = traffic.stop()
        facts = {"rollouts": ended, "traffic": report.model_dump(mode="json"), "engines": api.get("/fleet")}
        facts["events"] = api.get("/events", limit=200)["items"]
        options.json.write_text(json.dumps(facts, indent=1))
        print(f"{report.requests} requests, {report.errors} errors", flush=True)
    finally:
        up.terminate()
        up.wait()


def _roll_out(api: ApiClient, spec: ServiceSpec, flags: dict[str, Any]) -> dict[str, Any]:
    """Lay flags over the service's, wait for the end and return the rollout with its steps."""
    asked = {"service": spec.name, "flags": dict(spec.engine.flags) | flags, "replicas": 1}
    number = api.post("/rollouts", asked)["rollout_id"]
    until(lambda: _rollout(api, number)["state"] in ("promoted", "aborted", "halted"), 600)
    ended = _rollout(api, number)
    print(f"{flags}: {ended['state']}, {ended['reason']}", flush=True)
    return ended


def _winner(study: Path | None) -> dict[str, Any]:
    if study is not None and study.exists():
        found = json.loads(study.read_text())["study"]["recommendation"]
        if found and found["improvement"]:
            flags: dict[str, Any] = found["config"]["flags"]
            return flags
    return {"quantization": "fp8"}


def _rollout(api: ApiClient, number: str) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"/rollouts/{number}")
    return found


def until(holds: Callable[[], bool], within_s: float) -> None:
    """Ask twice a second; an api that does not answer yet does not hold. Raises TimeoutError."""
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
    options = parser(__doc__, SERVICE)
    options.add_argument("--study", type=Path)
    options.add_argument("--only-bad", action="store_true", help="Leave the good one out.")
    return options.parse_args()


if __name__ == "__main__":
    main()
