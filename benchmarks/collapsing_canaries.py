"""Canaries that collapse, and what that does to users before the abort: `python -m benchmarks.collapsing_canaries`.

The control plane as it runs, in virtual time, on twins of two bf16 replicas of a 70B shape that share 6 requests/s of
Azure's conversation trace. Each canary serves its share of the traffic well and breaks under the load it is to carry.
Twice each: by the steps that ship (nobody first), and with users from the first step on (5, 20, 100 %). Nothing depends
on the wall clock: the same seeds give the same file on any machine. A user's request counts as missed that the canary
answered beyond a limit or not at all, also while it drained; some of these stable would have missed too.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.figures import asked_as
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.rollouts.rollout import Rollout
from controlplane.domain.rollouts.rollout_options import RolloutOptions, StepSpec
from tests.integration.rollouts.living_site import BF16, LivingSite

USERS_RPS = 6.0
MOST_MISSED = 5
"""Users' requests that a collapsing canary may cost: the target."""
DRAINS_S = 60.0
"""What was in flight at the abort is waited for, and counted."""
WITHIN_S = 3000.0
USERS_FIRST = tuple(StepSpec(weight_percent=each) for each in (5, 20, 100))
STEPS: Mapping[str, RolloutOptions] = {
    "as shipped": RolloutOptions(),
    "users from the first step": RolloutOptions(steps=USERS_FIRST),
}


class Drill(NamedTuple):
    """A canary by its flags; `leaks_after` requests an engine of it has no memory left and dies."""

    config: EngineConfig
    leaks_after: int = 0
    tells: bool = True  # its engines tell of their memory, their queue and their KV cache


DRILLS: Mapping[str, Drill] = {
    "max-num-seqs 12": Drill(BF16.with_flags({"max-num-seqs": 12})),
    "KV cache too small": Drill(BF16.with_flags({"gpu-memory-utilization": 0.52})),
    "long prompts": Drill(BF16.with_flags({"max-num-batched-tokens": 96})),
    "memory grows": Drill(BF16.with_flags({"max-num-seqs": 200}), leaks_after=600),
    "memory grows, nobody tells": Drill(BF16.with_flags({"max-num-seqs": 200}), leaks_after=600, tells=False),
}


def run(drill: Drill, options: RolloutOptions, seed: int) -> dict[str, Any]:
    """Return what one rollout came to; times are virtual seconds since it was started."""
    site = LivingSite(
        users_rps=USERS_RPS,
        seed=seed,
        options=options,
        leaks=drill.config if drill.leaks_after else None,
        leaks_after=drill.leaks_after,
        tells=drill.tells,
    )
    site.go_on(seed % 13)  # what is replayed is drawn by the clock
    rollout = site.roll_out(drill.config, within_s=WITHIN_S)
    site.tells = False  # nobody asks engines that are gone
    site.go_on(DRAINS_S)
    last = rollout.steps[-1]
    missed = site.users_hurt(rollout.canary)
    return {
        "seed": seed,
        "state": rollout.state.value,
        "at_percent": last.weight_percent,
        "after_s": _took_s(rollout),
        "users": site.users_of(rollout.canary),
        "users_missed": missed,
        "replayed": sum(record.replayed for record in site.records.records),
        "guard": last.analysis.guard if last.analysis else None,
        "reason": rollout.reason,
        "met": rollout.state.value == "aborted" and last.weight_percent < 100 and missed <= MOST_MISSED,
    }


def _took_s(rollout: Rollout) -> float:
    """Until its last verdict: what follows is the draining of engines."""
    analysis = rollout.steps[-1].analysis
    until = analysis.at if analysis is not None else rollout.updated_at
    return (until - rollout.created_at).total_seconds()


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what all runs of one drill come to."""
    return {
        "aborted": sum(each["state"] == "aborted" for each in runs),
        "of": len(runs),
        "met": sum(each["met"] for each in runs),
        "at_percent": sorted({each["at_percent"] for each in runs}),
        "most_users_missed": max(each["users_missed"] for each in runs),
        "longest_s": max(each["after_s"] for each in runs),
        "runs": list(runs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[701, 702, 703], help="None of them was tuned on.")
    parser.add_argument("--drills", nargs="+", choices=list(DRILLS), default=list(DRILLS))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found: dict[str, Any] = {
        **asked_as("collapsing_canaries"),
        "users_rps": USERS_RPS,
        "target_users_missed": MOST_MISSED,
    }
    for name in args.drills:
        found[name] = {}
        for steps, options in STEPS.items():
            runs = []
            for seed in args.seeds:
                runs.append(run(DRILLS[name], options, seed))
                print(f"{name}, {steps}: {json.dumps(runs[-1])}", flush=True)
            found[name][steps] = summary(runs)
        if args.json:
            args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
