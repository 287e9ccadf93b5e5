"""The services that are tuned: shapes, GPUs, traffic and limits of which no profile ships and no other benchmark knows.

Spaces are small (tens of configurations), so that a whole study takes seconds; what is hard about them is the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.answers.nature import Nature
from controlplane.domain.errors import InvalidInput
from controlplane.domain.service import ServiceSpec
from tuner.space.first_tier import space_for
from tuner.space.space import Space
from tuner.twin.shapes import load_shape

_SHAPES = Path(__file__).parent / "shapes"
Raw = Mapping[str, Any]


class Scenario(NamedTuple):
    """A service without its budget and seed, and how its world differs from what the product believes."""

    name: str
    spec: ServiceSpec
    nature_seed: int

    @property
    def space(self) -> Space:
        return space_for(self.spec, self.spec.baseline)

    @property
    def nature(self) -> Nature:
        return _nature(self.spec.model.path, self.spec.gpus.type, self.nature_seed)

    def study_spec(self, *, budget: int, seed: int) -> ServiceSpec:
        """Return the service as one study tunes it."""
        tuning = self.spec.tuning.evolve(budget=self.spec.tuning.budget.evolve(engine_starts=budget), seed=seed)
        return self.spec.evolve(tuning=tuning)


@lru_cache(maxsize=64)
def _nature(path: str, gpu: str, seed: int) -> Nature:
    return Nature(load_shape(path), gpu, seed)


def scenario(
    name: str,
    *,
    model: str,
    gpus: Raw,
    workload: Raw,
    slos: Raw,
    space: Mapping[str, Sequence[Any]],
    flags: Raw,
    nature_seed: int,
) -> Scenario:
    """Return a scenario. `slos` are the service's; `space` lists the choices per flag."""
    raw = {
        "name": name,
        "model": {"name": model, "path": str(_SHAPES / f"{model}.json")},
        "engine": {"kind": "emulator", "version": "0.26", "flags": {"max-model-len": 8192, **flags}},
        "gpus": gpus,
        "workload": workload,
        "slos": slos,
        "tuning": {
            "space": {flag: {"choices": list(choices)} for flag, choices in space.items()},
        },
    }
    return Scenario(name, ServiceSpec.model_validate(raw), nature_seed)


def limits(percentile: float, *, ttft_ms: float, tpot_ms: float) -> list[Raw]:
    """Return the two latency limits."""
    return [
        {"metric": "ttft_ms", "percentile": percentile, "limit_ms": ttft_ms},
        {"metric": "tpot_ms", "percentile": percentile, "limit_ms": tpot_ms},
    ]


def chosen(names: Sequence[str], known: Sequence[Scenario]) -> list[Scenario]:
    """Return the scenarios of these names, all when none is named. Raises InvalidInput for an unknown one."""
    by_name = {each.name: each for each in known}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise InvalidInput(f"no scenario {', '.join(unknown)}", allowed=", ".join(by_name))
    return [by_name[name] for name in names] if names else list(known)


_CODE, _CONV = "azure-llm-2023/code", "azure-llm-2023/conv"
_SEQS, _TOKENS = (32, 128, 256), (1024, 2048, 8192)
_RAG: Raw = {
    "kind": "synthetic",
    "prompt_tokens": {"mean": 3200, "cv": 0.4, "min": 200, "max": 7000},
    "output_tokens": {"mean": 180, "cv": 0.6, "min": 16, "max": 800},
}
_AGENTIC: Raw = {
    "kind": "synthetic",
    "prompt_tokens": {"mean": 2400, "cv": 1.0, "min": 50, "max": 7000},
    "output_tokens": {"mean": 90, "cv": 0.8, "min": 8, "max": 600},
    "arrivals": {"process": "gamma", "burstiness": 0.5},
}
_CHAT: Raw = {
    "kind": "synthetic",
    "prompt_tokens": {"mean": 1200, "cv": 0.8, "max": 7000},
    "output_tokens": {"mean": 250, "cv": 0.7, "max": 1000},
}


def scenarios() -> list[Scenario]:
    """Return those that rules may be made by."""
    return [
        scenario(
            "14b-code-2xh200-p99",
            model="qwen-14b",
            gpus={"type": "H200", "count": 2, "price_usd_per_gpu_hour": 2.8},
            workload={"kind": "trace", "trace": _CODE},
            slos={"latency": limits(99, ttft_ms=1000, tpot_ms=45), "target_qps": 10},
            space={
                "quantization": (None, "fp8"),
                "max-num-seqs": _SEQS,
                "max-num-batched-tokens": _TOKENS,
                "tensor-parallel-size": (1, 2),
            },
            flags={},
            nature_seed=1,
        ),
        scenario(
            "32b-chat-8xh100-p99",
            model="qwen-32b",
            gpus={"type": "H100", "count": 8, "price_usd_per_gpu_hour": 2.4},
            workload=_CHAT,
            slos={"latency": limits(99, ttft_ms=1000, tpot_ms=50), "target_qps": 20, "max_usd_per_hour": 20},
            space={
                "quantization": (None, "fp8"),
                "max-num-seqs": _SEQS,
                "max-num-batched-tokens": (2048, 8192),
                "tensor-parallel-size": (1, 2, 4),
            },
            flags={"tensor-parallel-size": 2},
            nature_seed=2,
        ),
        scenario(
            "14b-conv-4xh100-bursts",
            model="qwen-14b",
            gpus={"type": "H100", "count": 4, "price_usd_per_gpu_hour": 2.5},
            workload={"kind": "trace", "trace": _CONV, "arrivals": {"process": "trace"}},
            slos={"latency": limits(95, ttft_ms=800, tpot_ms=40), "target_qps": 20},
            space={
                "quantization": (None, "fp8"),
                "max-num-seqs": _SEQS,
                "max-num-batched-tokens": _TOKENS,
                "gpu-memory-utilization": (0.85, 0.95),
            },
            flags={},
            nature_seed=3,
        ),
        scenario(
            "3b-agentic-1xl40s-tight",
            model="qwen-3b",
            gpus={"type": "L40S", "count": 1, "price_usd_per_gpu_hour": 1.1},
            workload=_AGENTIC,
            slos={"latency": limits(95, ttft_ms=700, tpot_ms=30), "target_qps": 5},
            space={
                "quantization": (None, "fp8"),
                "kv-cache-dtype": ("auto", "fp8"),
                "max-num-seqs": _SEQS,
                "max-num-batched-tokens": _TOKENS,
            },
            flags={"max-num-seqs": 16},
            nature_seed=4,
        ),
        scenario(
            "32b-rag-4xh200-loose",
            model="qwen-32b",
            gpus={"type": "H200", "count": 4, "price_usd_per_gpu_hour": 3.5},
            workload=_RAG,
            slos={"latency": limits(95, ttft_ms=5000, tpot_ms=100), "target_qps": 4},
            space={
                "quantization": (None, "fp8"),
                "max-num-seqs": _SEQS,
                "max-num-batched-tokens": _TOKENS,
                "tensor-parallel-size": (1, 2),
            },
            flags={"tensor-parallel-size": 2},
            nature_seed=5,
        ),
        scenario(
            "3b-conv-4xl40s-best-already",
            model="qwen-3b",
            gpus={"type": "L40S", "count": 4, "price_usd_per_gpu_hour": 1.1},
            workload={"kind": "trace", "trace": _CONV},
            slos={"latency": limits(95, ttft_ms=1000, tpot_ms=40), "target_qps": 18},
            space={
                "quantization": (None, "fp8"),
                "max-num-seqs": _SEQS,
                "max-num-batched-tokens": _TOKENS,
            },
            flags={"quantization": "fp8", "max-num-batched-tokens": 2048, "max-num-seqs": 128},
            nature_seed=6,
        ),
        scenario(
            "32b-conv-2xl40s-out-of-reach",
            model="qwen-32b",
            gpus={"type": "L40S", "count": 2, "price_usd_per_gpu_hour": 1.1},
            workload={"kind": "trace", "trace": _CONV},
            slos={"latency": limits(95, ttft_ms=1500, tpot_ms=60), "target_qps": 4},
            space={
                "quantization": ("fp8",),
                "max-num-seqs": _SEQS,
                "max-num-batched-tokens": _TOKENS,
                "kv-cache-dtype": ("auto", "fp8"),
                "tensor-parallel-size": (1, 2),
            },
            flags={"quantization": "fp8", "tensor-parallel-size": 2},
            nature_seed=7,
        ),
        scenario(
            "32b-chat-4xh100-dearer-per-hour",
            model="qwen-32b",
            gpus={"type": "H100", "count": 4, "price_usd_per_gpu_hour": 2.4},
            workload=_CHAT,
            slos={"latency": limits(95, ttft_ms=2500, tpot_ms=60), "target_qps": 1},
            space={
                "max-num-seqs": _SEQS,
                "max-num-batched-tokens": _TOKENS,
                "gpu-memory-utilization": (0.85, 0.92),
                "tensor-parallel-size": (1, 2),
            },
            flags={},
            nature_seed=8,
        ),
        scenario(
            "14b-agentic-8xh100-small-fleet",
            model="qwen-14b",
            gpus={"type": "H100", "count": 8, "price_usd_per_gpu_hour": 2.4},
            workload=_AGENTIC,
            slos={"latency": limits(95, ttft_ms=1000, tpot_ms=16), "target_qps": 2.5},
            space={
                "max-num-seqs": _SEQS,
                "max-num-batched-tokens": _TOKENS,
                "tensor-parallel-size": (1, 2, 4),
            },
            flags={"tensor-parallel-size": 4},
            nature_seed=9,
        ),
    ]
