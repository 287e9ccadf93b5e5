"""Drills of alerts end to end in virtual time: busy GPUs with and without a queue, and engines short of KV cache.

    python -m benchmarks.alert_drills [--seed 1] [--json PATH]

The controller, the scraper, the built-in evaluation of alerts and their acts are the product's own; engines are the
twin behind the emulator's metrics page, and only the fleet, the store and the clock are in memory.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.drills.site import DrillSite, Load
from benchmarks.figures import asked_as, tell
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.operations.alerts import AlertAction, AlertOptions
from controlplane.domain.rollouts.rollout_options import RolloutOptions, StepSpec
from controlplane.domain.service import ModelSpec, ServiceSpec
from tests.builders_serving import a_spec

STARTUP_S = 90
BUSY, QUEUED = "FleetuneGpusBusy", "FleetuneGpusBusyAndQueued"
PREEMPTS, FULL = "FleetunePreemptions", "FleetuneKvCacheFull"
MODEL = ModelSpec(name="llama-70b", path="llama-70b")
LIGHT = Load(1.2, 300, 300)
HEAVY = Load(0.9, 300, 300)
LONG = Load(1.0, 400, 600)
FEW_BLOCKS = {"max-num-seqs": 16, "num-gpu-blocks-override": 600}
"""9,600 tokens of KV cache: ten requests of 1,000."""


def described(flags: Mapping[str, Any], actions: Mapping[str, AlertAction], **changes: Any) -> ServiceSpec:
    engine = a_spec().engine.evolve(
        flags={"max-model-len": 8192, "quantization": "fp8", "emulator-startup-s": STARTUP_S, **flags}
    )
    return a_spec(model=MODEL, engine=engine, alerts=AlertOptions(actions=actions), initial_replicas=1, **changes)


def queued(folder: Path, seed: int) -> dict[str, Any]:
    """More comes than one replica serves: GPUs busy, requests wait."""
    spec = described({"max-num-seqs": 4}, {QUEUED: AlertAction.SCALE_OUT})
    drill = begun(folder, spec, seed)
    drill.go_on(8, HEAVY)
    return told(drill, QUEUED) | {"replicas": drill.replicas, "two_ready_s": drill.all_ready_s(2)}


def alone(folder: Path, seed: int) -> dict[str, Any]:
    """GPUs busy all the time, and nobody waits."""
    drill = begun(folder, described({}, {QUEUED: AlertAction.SCALE_OUT}), seed)
    drill.go_on(7, LIGHT)
    found = told(drill, BUSY) | {"replicas": drill.replicas}
    return found | {"queued_fired_s": drill.first("alert.fired", QUEUED)}


def out_of_memory(folder: Path, seed: int) -> dict[str, Any]:
    """The KV cache holds fewer requests than are let in: preemptions, until another replica takes its share."""
    drill = begun(folder, described(FEW_BLOCKS, {PREEMPTS: AlertAction.SCALE_OUT}), seed)
    drill.go_on(5, LONG)
    during = drill.metrics.read(MODEL.name).preemptions_per_s
    drill.go_on(6, LONG)
    return told(drill, PREEMPTS) | {
        "replicas": drill.replicas,
        "preemptions_per_s": during,
        "preemptions_per_s_at_the_end": drill.metrics.read(MODEL.name).preemptions_per_s,
        "kv_full_fired_s": drill.first("alert.fired", FULL),
        "two_ready_s": drill.all_ready_s(2),
    }


def bad_canary(folder: Path, seed: int) -> dict[str, Any]:
    """Stable keeps within its cache; a canary that lets four times as many in does not, and is given up."""
    steps = tuple(StepSpec(weight_percent=weight, min_s=3600, max_s=7200) for weight in (50, 100))
    rollout = RolloutOptions(steps=steps, match_load=False)
    spec = described(FEW_BLOCKS | {"max-num-seqs": 6}, {PREEMPTS: AlertAction.ABORT_ROLLOUT}, rollout=rollout)
    drill = begun(folder, spec, seed)
    canary = EngineConfig(flags={**spec.baseline.flags, "max-num-seqs": 32})
    drill.site.roll_out(canary, replicas=1)
    drill.go_on(2, Load(0.2, 400, 600))
    drill.go_on(7, LONG._replace(rate_rps=2.0))
    return told(drill, PREEMPTS) | {"rollout": drill.site.rollout.state.value, "reason": drill.site.rollout.reason}


def begun(folder: Path, spec: ServiceSpec, seed: int) -> DrillSite:
    drill = DrillSite(folder, spec, gpus=4, seed=seed)
    drill.site.passes(STARTUP_S + 5)
    drill.begin()
    return drill


def told(drill: DrillSite, alert: str) -> dict[str, Any]:
    actions = {"fired_s": "alert.fired", "acted_s": "alert.acted", "not_acted_s": "alert.not_acted"}
    return {"alert": alert} | {name: drill.first(action, alert) for name, action in actions.items()}


DRILLS: Mapping[str, Callable[[Path, int], dict[str, Any]]] = {
    "GPUs busy and requests wait": queued,
    "GPUs busy and nobody waits": alone,
    "KV cache too small": out_of_memory,
    "a canary that preempts": bad_canary,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found: dict[str, Any] = {
        **asked_as("alert_drills"),
        "startup_s": STARTUP_S,
    }
    for name, drill in DRILLS.items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = drill(Path(folder), args.seed)
    tell(found, args.json)


if __name__ == "__main__":
    main()
