"""Scenarios beside the four, whose truth no profile of the twin's can say: another structure, not other parameters.

The rules of the search were chosen on the four and on those of `DEVELOPED_ON`; the rest was run once, when they stood.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from benchmarks.search.oddities import (
    busy_server,
    fp8_cache_cliff,
    long_contexts,
    lost_blocks,
    no_fp8_units,
    padded_steps,
    power_limit,
    short_chunks,
    sized_sampler,
    slow_host,
    slow_links,
    small_graphs,
    tight_allocator,
    uneven_router,
    whole_eager,
    whole_prompts,
)
from benchmarks.search.scenarios import Oddity, Scenario, in_the_usual_space, scenarios, service

DEVELOPED_ON = (
    *("8b-code-1gpu-ttft", "14b-conv-1h100-host", "8b-conv-1h200-server", "moe-code-1h100-chunks"),
    *("8b-code-1a100-contexts", "8b-code-1h200-sampler", "14b-code-1h100-padded", "8b-conv-1h100-blocks"),
)
_SEQS = (16, 32, 64, 128, 256, 512, 1024)
_TOKENS = (512, 1024, 2048, 4096, 8192, 16384)


def held_out() -> tuple[Scenario, ...]:
    """Return them, the two that were developed on first."""
    return (
        in_the_usual_space("8b-code-1gpu-ttft", "llama-8b", "code", gpus=1, ttft_ms=600, tpot_ms=60, qps=20),
        _odd("14b-conv-1h100-host", Engines("qwen3-14b", "H100", 1), "conv", (800, 60), 10, slow_host),
        _odd("moe-conv-1h100-router", Engines("qwen3-30b-a3b", "H100", 1), "conv", (1500, 60), 12, uneven_router),
        _odd("moe-code-2h100-links", Engines("qwen3-30b-a3b", "H100", 2), "code", (2500, 60), 10, slow_links),
        _odd("14b-code-2h100-fp8kv", Engines("qwen3-14b", "H100", 2), "code", (1500, 50), 12, fp8_cache_cliff),
        _odd("8b-conv-1l40s-power", Engines("llama-8b", "L40S", 1), "conv", (1000, 80), 6, power_limit),
        _odd("8b-code-2a100-fp8", Engines("llama-8b", "A100", 2), "code", (2000, 60), 10, no_fp8_units),
        _odd("70b-conv-4h200-links", Engines("llama-70b", "H200", 4), "conv", (1500, 80), 6, slow_links),
        _odd("8b-conv-1h200-server", Engines("llama-8b", "H200", 1), "conv", (1000, 60), 20, busy_server),
        _odd("14b-conv-1h100-graphs", Engines("qwen3-14b", "H100", 1), "conv", (1000, 60), 10, small_graphs),
        _odd("8b-conv-1h100-blocks", Engines("llama-8b", "H100", 1), "conv", (1500, 60), 12, lost_blocks),
        _odd("8b-code-1h200-sampler", Engines("llama-8b", "H200", 1), "code", (1500, 50), 12, sized_sampler),
        _odd("moe-code-1h100-chunks", Engines("qwen3-30b-a3b", "H100", 1), "code", (3000, 120), 6, short_chunks),
        _odd("8b-conv-1h200-eager", Engines("llama-8b", "H200", 1), "conv", (800, 50), 14, whole_eager),
        _odd("14b-code-1h100-padded", Engines("qwen3-14b", "H100", 1), "code", (2000, 80), 6, padded_steps),
        _odd("moe-conv-2h100-allocator", Engines("qwen3-30b-a3b", "H100", 2), "conv", (1200, 60), 14, tight_allocator),
        _odd("8b-code-1a100-contexts", Engines("llama-8b", "A100", 1), "code", (2500, 80), 5, long_contexts),
        _odd("8b-code-1h100-whole", Engines("llama-8b", "H100", 1), "code", (2500, 80), 8, whole_prompts),
    )


def all_scenarios() -> tuple[Scenario, ...]:
    """Return the four and those held out."""
    return (*scenarios(), *held_out())


def scenario_named(name: str) -> Scenario:
    """Return one of all. The name must be known."""
    return next(each for each in all_scenarios() if each.name == name)


class Engines(NamedTuple):
    """What is served, and on what."""

    model: str
    gpu: str
    gpus: int


def _odd(
    name: str, engines: Engines, trace: str, limits_ms: tuple[float, float], qps: float, oddity: Oddity
) -> Scenario:
    model, gpu, gpus = engines
    space: dict[str, Any] = {
        "quantization": {"choices": [None, "fp8"]},
        "kv-cache-dtype": {"choices": ["auto", "fp8"]},
        "max-num-seqs": {"choices": _SEQS},
        "max-num-batched-tokens": {"choices": _TOKENS},
        "gpu-memory-utilization": {"choices": [0.85, 0.92, 0.95]},
        "tensor-parallel-size": {"choices": [size for size in (1, 2, 4) if size <= gpus]},
    }
    spec = service(name, model, trace, gpu=gpu, gpus=gpus, limits_ms=limits_ms, qps=qps, space=space)
    return Scenario(name, spec, "llama-70b" if model == "llama-8b" else "llama-8b", oddity)
