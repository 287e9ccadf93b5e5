"""The whole loop on real inference, nothing emulated: a small embedding model of a PyPI package, on the processor.

What serves at first waits three seconds for its batches and can never meet its limit; without the wait it does by far.
So what is found hangs on no machine's speed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.real_loop import Traffic
from tests.e2e.loop.installation import Installation, installation

pytest.importorskip("wordllama", reason="the real model is not here: pip install 'fleetune[embed]'")
pytestmark = pytest.mark.skipif(
    "FLEETUNE_TEST_REAL_LOOP" not in os.environ,
    reason="real latencies of two shared cores decide it, red once in four runs: FLEETUNE_TEST_REAL_LOOP=1 asks for it",
)

SERVICE: dict[str, Any] = {
    "name": "embeddings",
    "model": {"name": "wordllama", "path": "wordllama"},
    "engine": {
        "kind": "embed",
        "flags": {"max-batch-size": 64, "max-wait-ms": 3000, "threads": 1},
        "start_timeout_s": 300,
    },
    "gpus": {"type": "CPU", "count": 2, "price_usd_per_gpu_hour": 0.04},
    "workload": {"kind": "synthetic", "prompt_tokens": {"mean": 800, "cv": 0.3}, "output_tokens": {"mean": 1}},
    "slos": {
        "latency": [{"metric": "e2e_ms", "percentile": 90, "limit_ms": 2000}],
        "max_error_ratio": 0.02,
        "target_qps": 4,
    },
    "tuning": {
        "space": {"max-wait-ms": {"choices": [3000, 0]}},
        "budget": {"engine_starts": 4},
        "levels": {
            "min_s": 2,
            "max_s": 3,
            "longest_s": 3,
            "warmup_s": 0.5,
            "precision": 0.6,
            "max_lag_ms": 1000,
        },
        "confirm_fleet": False,
    },
    "rollout": {
        "steps": [{"weight_percent": weight, "min_samples": 5, "min_s": 2, "max_s": 900} for weight in (50, 100)],
        "miss_ratio_margin": 0.5,
        "error_ratio_margin": 0.5,
        "match_load": False,
        "on_unproven_load": "proceed",
    },
}


def test_a_real_engine_is_tuned_and_its_winner_promoted_under_live_traffic(tmp_path: Path) -> None:
    with installation(tmp_path, workers=0, **SERVICE) as fleet:
        traffic = Traffic(fleet.spec, 4, fleet.gateway_url, tmp_path / "traffic")
        traffic.start()
        study = _tuned(fleet, tmp_path / "study.json")
        fleet.until("the rollout is over", lambda: _rollout(fleet)["state"] in ("promoted", "aborted", "paused"))
        rollout, report = _rollout(fleet), traffic.stop()
    assert rollout["state"] == "promoted", rollout["reason"]
    assert [step["analysis"]["verdict"] for step in rollout["steps"]] == ["pass", "pass"]
    winner = study["study"]["recommendation"]["config"]["flags"]
    assert winner["max-wait-ms"] == 0
    measured = [each for each in study["trials"] if each["config"]["flags"] == winner]
    assert measured
    assert all(trial["capacity"]["rps"] >= 4 for trial in measured)
    assert (report.errors, report.truncated) == (0, 0)
    assert report.requests > 50


def _tuned(fleet: Installation, result: Path) -> Any:
    """Run `fleetune tune --apply` as a person does, and return what it wrote."""
    words = ["tune", "-f", str(fleet.folder / "service.yaml"), "--data-dir", str(fleet.data_dir)]
    command = [sys.executable, "-m", "controlplane.cli.main", *words, "--apply", "--json", str(result)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{fleet.tell()}"
    return json.loads(result.read_text())


def _rollout(fleet: Installation) -> dict[str, Any]:
    """Return the newest rollout over something that served before."""
    rows = fleet.api.get("/rollouts", service="embeddings")["items"]
    found: dict[str, Any] = next(each for each in rows if each["stable"])
    return found
