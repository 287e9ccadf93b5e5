"""Scenarios beside the four, whose truth no profile of the twin's can say: another structure, not other parameters.

The rules of the search were chosen on the four and on those of `DEVELOPED_ON`; the rest was run once, when they stood.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from benchmarks.search.scenarios import Oddity, Scenario, in_the_usual_space, scenarios, service
from controlplane.domain.engines.engine import EngineConfig
from tuner.twin.setup import EngineSetup
from tuner.twin.steptime import StepCost

DEVELOPED_ON = ("8b-code-1gpu-ttft", "14b-conv-1h100-host")
_SEQS = (16, 32, 64, 128, 256, 512, 1024)
_TOKENS = (512, 1024, 2048, 4096, 8192, 16384)


def held_out() -> tuple[Scenario, ...]:
    """Return them, the two that were developed on first."""
    return (
        in_the_usual_space("8b-code-1gpu-ttft", "llama-8b", "code", gpus=1, ttft_ms=600, tpot_ms=60, qps=20),
        _odd("14b-conv-1h100-host", Engines("qwen3-14b", "H100", 1), "conv", (800, 60), 10, _slow_host),
        _odd("moe-conv-1h100-router", Engines("qwen3-30b-a3b", "H100", 1), "conv", (1500, 60), 12, _uneven_router),
        _odd("moe-code-2h100-links", Engines("qwen3-30b-a3b", "H100", 2), "code", (2500, 60), 10, _slow_links),
        _odd("14b-code-2h100-fp8kv", Engines("qwen3-14b", "H100", 2), "code", (1500, 50), 12, _fp8_cache_cliff),
        _odd("8b-conv-1l40s-power", Engines("llama-8b", "L40S", 1), "conv", (1000, 80), 6, _power_limit),
        _odd("8b-code-2a100-fp8", Engines("llama-8b", "A100", 2), "code", (2000, 60), 10, _no_fp8_units),
        _odd("70b-conv-4h200-links", Engines("llama-70b", "H200", 4), "conv", (1500, 80), 6, _slow_links),
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


def _slow_host(setup: EngineSetup, _: EngineConfig) -> EngineSetup:
    """A host that schedules step after step (no step in flight meanwhile) and slows down with the sequences."""
    changed = _costs(setup, schedule_s=3, schedule_sequence_s=4, output_s=2)
    return changed.evolve(async_scheduling=False)


def _uneven_router(setup: EngineSetup, config: EngineConfig) -> EngineSetup:
    """Few experts get most tokens: their tiles are long, the others' nearly empty; worse in 8 bits."""
    worse = 2.0 if config.flags.get("quantization") == "fp8" else 1.0
    return _costs(setup, expert_knee_tokens=2.5 * worse, expert_token_s=1.4)


def _slow_links(setup: EngineSetup, config: EngineConfig) -> EngineSetup:
    """GPUs that speak over PCIe although the sheet has NVLink; between four of them over the other socket."""
    return _costs(setup, allreduce_s=4.0 * max(1, config.tensor_parallel_size // 2), allreduce_token_s=12.0)


def _fp8_cache_cliff(setup: EngineSetup, config: EngineConfig) -> EngineSetup:
    """What a real H200 showed: steps of many prompt tokens take far longer to launch with an fp8 KV cache."""
    if config.flags.get("kv-cache-dtype") != "fp8":
        return setup
    return _costs(setup, launch_eager_s=1.5, launch_piecewise_s=1.3)


def _power_limit(setup: EngineSetup, _: EngineConfig) -> EngineSetup:
    """A card of 350 W: far slower after seconds of work, and small steps that wait for the bus."""
    changed = _costs(setup, token_s=1.2, weights_s=1.15, fixed_s=3)
    return changed.evolve(cost=changed.cost._replace(throttle=0.6))


def _no_fp8_units(setup: EngineSetup, config: EngineConfig) -> EngineSetup:
    """8-bit weights are widened before every product, an 8-bit cache before every look."""
    if config.flags.get("quantization") == "fp8":
        setup = _costs(setup, token_s=1.35, knee_tokens=2)
    return _costs(setup, kv_token_s=1.8) if config.flags.get("kv-cache-dtype") == "fp8" else setup


def _costs(setup: EngineSetup, **factors: float) -> EngineSetup:
    cost: StepCost = setup.cost
    return setup.evolve(cost=cost._replace(**{name: getattr(cost, name) * by for name, by in factors.items()}))
