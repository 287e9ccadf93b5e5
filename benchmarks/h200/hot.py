"""What a running installation does with a real engine between starts: adapters loaded hot, sleep, waking, from zero.

Usage: python -m benchmarks.h200.hot --adapter FOLDER --data-dir DIR --json OUT [--file SERVICE]
One replica serves and one sleeps. Scaled to two, the sleeper wakes; the adapter goes on both and is asked through the
gateway; scaled to zero, one sleeps, and a request wakes it, twice. What NVML says of the GPUs stands beside each.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.h200.installed import install, parser
from controlplane.cli.client import ApiClient
from controlplane.domain.errors import Unavailable
from controlplane.reading.service_file import load_service

SERVICE = Path("examples/h200/hot-8b.yaml")
ADAPTER = "support"
ASKED = 20
ROUNDS = 2


class Watched:
    """An installation whose states are waited for. Times are seconds of this process's monotonic clock."""

    def __init__(self, file: Path, data_dir: Path, ports: dict[str, int]) -> None:
        self.described = yaml.safe_load(file.read_text())
        self.name = load_service(file).name
        self.model = load_service(file).model.name
        self.api = ApiClient(url=f"http://127.0.0.1:{ports['api']}", key=None, data_dir=data_dir)
        self.gateway = f"http://127.0.0.1:{ports['gateway']}"
        self.facts: dict[str, Any] = {}

    def scale(self, replicas: int) -> None:
        """An autoscaled service takes its least number of replicas from its description, and 0 by hand."""
        self.described["autoscale"]["min_replicas"] = replicas
        self.api.post("/services", self.described)
        if not replicas:
            self.api.post(f"/services/{self.name}/scale", {"replicas": 0})

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get(f"/services/{self.name}/status")
        return found

    def ready(self) -> int:
        return sum(1 for engine in self.api.get("/fleet")["engines"] if engine["state"] == "ready")

    def until(self, what: str, holds: Callable[[], bool], within_s: float = 300) -> float:
        """Return the seconds it took. Raises TimeoutError."""
        began = time.monotonic()
        while True:
            with suppress(Unavailable):
                if holds():
                    break
            if time.monotonic() - began > within_s:
                raise TimeoutError(f"waited {within_s:g} s until {what}")
            time.sleep(0.05)
        self.note(what, seconds=time.monotonic() - began)
        return time.monotonic() - began

    def first_token_s(self, model: str) -> float:
        """Return seconds from asking to the first piece of the answer. Raises httpx.HTTPError."""
        body = {"model": model, "prompt": "w5 w6 w7 w8", "max_tokens": 8, "stream": True}
        began = time.monotonic()
        with httpx.stream("POST", f"{self.gateway}/v1/completions", json=body, timeout=200, trust_env=False) as answer:
            answer.raise_for_status()
            next(answer.iter_bytes())
            return time.monotonic() - began

    def note(self, what: str, **told: Any) -> None:
        with suppress(Unavailable):
            told["gpus"] = self.api.get("/fleet/gpus", model=self.model)
        self.facts[what] = told
        print(what, {key: value for key, value in told.items() if key != "gpus"}, flush=True)


def main() -> None:
    options = _options()
    up, ports = install(options.file, options.data_dir)
    seen = Watched(options.file, options.data_dir, ports)
    try:
        _tell(seen, options.adapter)
    finally:
        seen.facts["events"] = _events(seen.api)
        options.json.write_text(json.dumps(seen.facts, indent=1))
        up.terminate()
        up.wait()


def _tell(seen: Watched, adapter: Path) -> None:
    seen.until("one serves and one sleeps", lambda: seen.ready() == 2 and len(seen.status()["asleep"]) == 1, 400)
    seen.scale(2)
    seen.until("the sleeper is awake", lambda: not seen.status()["asleep"] and seen.ready() == 2)
    seen.note("asked before the adapter", first_tokens_s=[seen.first_token_s(seen.model) for _ in range(ASKED)])
    asked = {"name": ADAPTER, "path": str(adapter.resolve()), "rank": 8}
    seen.api.post(f"/services/{seen.name}/adapters", asked)
    seen.until("both replicas have the adapter", lambda: len(_loaded(seen)) == 2)
    seen.until("the gateway knows the adapter", lambda: _is_known(seen))
    seen.note("asked by the adapter", first_tokens_s=[seen.first_token_s(ADAPTER) for _ in range(ASKED)])
    for number in range(1, ROUNDS + 1):
        seen.scale(0)
        seen.until(f"round {number}: one sleeps, none serves", lambda: _is_asleep(seen), 200)
        time.sleep(5)
        seen.note(f"round {number}: from asleep", first_token_s=seen.first_token_s(seen.model))


def _is_asleep(seen: Watched) -> bool:
    status = seen.status()
    return len(status["asleep"]) == 1 == len(status["warm"]) == seen.ready()


def _loaded(seen: Watched) -> list[str]:
    items = seen.api.get(f"/services/{seen.name}/adapters")["items"]
    return [engine for item in items for engine, versions in item["loaded"].items() if versions]


def _is_known(seen: Watched) -> bool:
    with suppress(httpx.HTTPError):
        listed = httpx.get(f"{seen.gateway}/v1/models", trust_env=False).json()["data"]
        return any(each["id"] == ADAPTER for each in listed)
    return False


def _events(api: ApiClient) -> Any:
    with suppress(Unavailable):
        return api.get("/events", limit=200)["items"]
    return []


def _options() -> argparse.Namespace:
    options = parser(__doc__, SERVICE)
    options.add_argument("--adapter", type=Path, required=True)
    return options.parse_args()


if __name__ == "__main__":
    main()
