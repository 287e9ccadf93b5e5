"""Scenarios drawn by chance, as many as asked for: nobody chose them, and new ones cost nothing (`--drawn N`).

What a target and limits ask may be far too much or next to nothing for the GPUs: such services are tuned too.
"""

from __future__ import annotations

import random
import re
from typing import Any

from benchmarks.answers.scenarios import Raw, Scenario, limits, scenario

_POOLS = (
    ("qwen-3b", "L40S", (2, 4)),
    ("qwen-3b", "A100-80", (1, 2)),
    ("qwen-14b", "A100-80", (2, 4)),
    ("qwen-14b", "H100", (2, 4)),
    ("qwen-14b", "H200", (2, 4)),
    ("qwen-32b", "H100", (4, 8)),
    ("qwen-32b", "H200", (2, 4)),
)
_TRACES = ("azure-llm-2023/code", "azure-llm-2023/conv")
_NAME = re.compile(r"drawn-(\d+)-(\d+)")
_NATURES = 1000  # natures of drawn scenarios have numbers from here on


def drawn(count: int, draw: int) -> list[Scenario]:
    """Return the first `count` scenarios of a draw. A scenario of the same numbers is always the same."""
    return [_drawn(draw, number) for number in range(count)]


def drawn_by_name(name: str) -> Scenario | None:
    """Return the drawn scenario that is called so; None when that is no name of one."""
    found = _NAME.fullmatch(name)
    return _drawn(int(found[1]), int(found[2])) if found else None


def _drawn(draw: int, number: int) -> Scenario:
    name = f"drawn-{draw}-{number}"
    chance = random.Random(name)
    model, gpu, counts = chance.choice(_POOLS)
    tensor = chance.choice((1, 2)) if model != "qwen-3b" else 1
    return scenario(
        name,
        model=model,
        gpus={"type": gpu, "count": chance.choice(counts), "price_usd_per_gpu_hour": 2.5},
        workload=_workload(chance),
        slos={"latency": _limits(chance), "target_qps": chance.choice((2, 4, 6, 9, 12))},
        space={
            "max-num-seqs": (32, 64, 128, 256),
            "max-num-batched-tokens": (1024, 2048, 8192),
            "tensor-parallel-size": (1, 2) if model != "qwen-3b" else (1,),
            **({} if gpu == "A100-80" else {"quantization": (None, "fp8")}),
        },
        flags={"max-num-seqs": chance.choice((32, 256)), "tensor-parallel-size": tensor},
        nature_seed=_NATURES * (draw + 1) + number,
    )


def _limits(chance: random.Random) -> list[Raw]:
    percentile = chance.choice((90, 95, 99))
    return limits(percentile, ttft_ms=chance.choice((800, 1500, 3000)), tpot_ms=chance.choice((45, 60, 90)))


def _workload(chance: random.Random) -> Raw:
    """Return a third each of traces' rows, traces with their own arrivals, and made requests."""
    kind = chance.choice(("rows", "own", "made"))
    if kind == "made":
        return _made(chance)
    own = {"arrivals": {"process": "trace"}} if kind == "own" else {}
    return {"kind": "trace", "trace": chance.choice(_TRACES), **own}


def _made(chance: random.Random) -> Raw:
    bursts: dict[str, Any] = {"process": "gamma", "burstiness": chance.choice((0.3, 0.5))}
    prompt, cv = chance.choice(((500, 1.0), (1200, 0.8), (2500, 1.2), (3500, 0.4)))
    answer = {"mean": chance.choice((80, 200, 350)), "cv": chance.choice((0.4, 0.8)), "min": 4, "max": 1000}
    return {
        "kind": "synthetic",
        "prompt_tokens": {"mean": prompt, "cv": cv, "min": 20, "max": 7000},
        "output_tokens": answer,
        **({"arrivals": bursts} if chance.random() < 1 / 3 else {}),
    }
