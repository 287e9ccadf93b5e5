"""What is searched: four services on the twin, each with a space of at least 2,000 configurations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.service import ServiceSpec
from tuner.space.first_tier import space_for
from tuner.space.space import Space
from tuner.twin.setup import EngineSetup

_SEQS = (16, 32, 48, 64, 96, 128, 192, 256, 512, 1024)
_TOKENS = (512, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 16384)


Oddity = Callable[[EngineSetup, EngineConfig], EngineSetup]
"""What a true engine does otherwise than any profile of the twin's could say."""


def as_it_is(setup: EngineSetup, _: EngineConfig) -> EngineSetup:
    """Return the engine as the twin has it."""
    return setup


class Scenario(NamedTuple):
    """A service to tune, the shape whose profile is the wrong one, and what its truth has beyond the twin."""

    name: str
    spec: ServiceSpec
    wrong_shape: str
    oddity: Oddity = as_it_is

    @property
    def space(self) -> Space:
        return space_for(self.spec, self.spec.baseline)


def scenarios() -> tuple[Scenario, ...]:
    """Return the four: both model sizes, both traces, 1, 2 and 4 GPUs, tight TTFT and tight TPOT."""
    return (
        in_the_usual_space("8b-conv-1gpu-ttft", "llama-8b", "conv", gpus=1, ttft_ms=500, tpot_ms=50, qps=30),
        in_the_usual_space("8b-code-2gpu-tpot", "llama-8b", "code", gpus=2, ttft_ms=1500, tpot_ms=20, qps=30),
        in_the_usual_space("70b-conv-4gpu-ttft", "llama-70b", "conv", gpus=4, ttft_ms=1000, tpot_ms=80, qps=8),
        in_the_usual_space("70b-code-4gpu-tpot", "llama-70b", "code", gpus=4, ttft_ms=4000, tpot_ms=40, qps=6),
    )


def in_the_usual_space(
    name: str, model: str, trace: str, *, gpus: int, ttft_ms: float, tpot_ms: float, qps: float
) -> Scenario:
    """Return a scenario on H200s as the twin has them, with the space of the four."""
    limits = (ttft_ms, tpot_ms)
    spec = service(name, model, trace, gpu="H200", gpus=gpus, limits_ms=limits, qps=qps, space=_space(gpus))
    return Scenario(name, spec, "llama-70b" if model == "llama-8b" else "llama-8b")


def service(
    name: str,
    model: str,
    trace: str,
    *,
    gpu: str,
    gpus: int,
    limits_ms: tuple[float, float],
    qps: float,
    space: dict[str, Any],
) -> ServiceSpec:
    """Return a service with P95 limits on TTFT and TPOT, ms, whose baseline is what people start with."""
    base: dict[str, Any] = {"max-model-len": 8192}
    if model == "llama-70b":
        base["tensor-parallel-size"] = 2  # bf16 weights do not fit on one H200
    return ServiceSpec.model_validate(
        {
            "name": name,
            "model": {"name": model, "path": model},
            "engine": {"kind": "emulator", "version": "0.26", "flags": base},
            "gpus": {"type": gpu, "count": gpus, "price_usd_per_gpu_hour": 4},
            "workload": {"kind": "trace", "trace": f"azure-llm-2023/{trace}"},
            "slos": {
                "latency": [
                    {"metric": "ttft_ms", "percentile": 95, "limit_ms": limits_ms[0]},
                    {"metric": "tpot_ms", "percentile": 95, "limit_ms": limits_ms[1]},
                ],
                "target_qps": qps,
            },
            "tuning": {"space": space},
        }
    )


def _space(gpus: int) -> dict[str, Any]:
    sizes = [size for size in (1, 2, 4) if size <= gpus]
    space: dict[str, Any] = {
        "quantization": {"choices": [None, "fp8"]},
        "kv-cache-dtype": {"choices": ["auto", "fp8"]},
        "max-num-seqs": {"choices": _SEQS},
        "max-num-batched-tokens": {"choices": _TOKENS},
        "gpu-memory-utilization": {"choices": [0.85, 0.92, 0.95]},
        "tensor-parallel-size": {"choices": sizes},
    }
    if gpus == 1:
        space["long-prefill-token-threshold"] = {"choices": [0, 1024]}
    return space
