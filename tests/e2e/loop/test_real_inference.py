"""The whole loop on real inference, nothing emulated: a small embedding model of a PyPI package, on the processor.

What serves at first collects texts for a second and refuses those that find ten waiting: ten requests/s at most,
whatever the processor. All four places together never hold the target so; with room for those that wait a few do, on
any machine. So what is found hangs on no machine's speed, and no limit is near what a busy one needs.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.real_loop import Traffic
from tests.e2e.loop.installation import Installation, installation

pytest.importorskip("wordllama", reason="the real model is not here: pip install 'fleetune[embed]'")

SERVICE: dict[str, Any] = {
    "name": "embeddings",
    "model": {"name": "wordllama", "path": "wordllama"},
    "engine": {
        "kind": "embed",
        "flags": {"max-batch-size": 64, "max-wait-ms": 1000, "max-queue": 10, "threads": 1},
        "start_timeout_s": 300,
    },
    "gpus": {"type": "CPU", "count": 4, "price_usd_per_gpu_hour": 0.04},  # up to three of the winner beside stable
    "workload": {"kind": "synthetic", "prompt_tokens": {"mean": 800, "cv": 0.3}, "output_tokens": {"mean": 1}},
    "slos": {
        "latency": [{"metric": "e2e_ms", "percentile": 90, "limit_ms": 4000}],
        "max_error_ratio": 0.02,
        "target_qps": 40,
    },
    "tuning": {
        "space": {"max-queue": {"choices": [10, 256]}},
        "budget": {"engine_starts": 4},
        "levels": {
            "min_s": 1.5,
            "max_s": 2.5,
            "longest_s": 2.5,
            "warmup_s": 0.5,
            "precision": 0.6,
            "max_lag_ms": 1000,
        },
        "confirm_fleet": False,
    },
    "rollout": {
        "steps": [{"weight_percent": weight, "min_samples": 5, "min_s": 4, "max_s": 900} for weight in (50, 100)],
        "miss_ratio_margin": 0.5,
        "error_ratio_margin": 0.5,
        "warm_up_requests": 2,
        "match_load": False,
        "on_unproven_load": "proceed",
    },
}
LIVE_RPS = 2  # in the second of a batch: more than ten never come, so nobody is refused


def test_a_real_engine_is_tuned_and_its_winner_promoted_under_live_traffic(tmp_path: Path) -> None:
    with installation(tmp_path, workers=0, **SERVICE) as fleet:
        traffic = Traffic(fleet.spec, LIVE_RPS, fleet.gateway_url, tmp_path / "traffic")
        traffic.start()
        study = _tuned(fleet, tmp_path / "study.json")
        fleet.until("the rollout is over", lambda: _rollout(fleet).get("finished_at") is not None)
        rollout, report = _rollout(fleet), traffic.stop()
    assert rollout["state"] == "promoted", rollout["reason"]
    assert [step["analysis"]["verdict"] for step in rollout["steps"]] == ["pass", "pass"]
    winner, trials = study["study"]["recommendation"]["config"]["flags"], study["trials"]
    assert winner["max-queue"] == 256
    held = {each["kind"]: each["capacity"]["rps"] for each in trials if each["config"]["flags"] == winner}
    assert held.keys() == {"search", "confirm_winner"}, trials
    assert min(held.values()) > trials[0]["capacity"]["rps"], "what served held less"
    assert (report.errors, report.truncated) == (0, 0), report.error_counts
    assert report.requests > 50


def _tuned(fleet: Installation, result: Path) -> Any:
    """Run `fleetune tune --apply` as a person does, and return what it wrote."""
    words = ["tune", "-f", str(fleet.folder / "service.yaml"), "--data-dir", str(fleet.data_dir)]
    command = [sys.executable, "-m", "controlplane.cli.main", *words, "--apply", "--json", str(result)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{fleet.tell()}"
    return json.loads(result.read_text())


def _rollout(fleet: Installation) -> dict[str, Any]:
    """Return the newest rollout over something that served before; nothing before there is one."""
    rows = fleet.api.get("/rollouts", service="embeddings")["items"]
    found: dict[str, Any] = next((each for each in rows if each["stable"]), {})
    return found
