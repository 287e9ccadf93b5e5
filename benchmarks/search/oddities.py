"""What true engines do that no profile of the twin's can say: other structures, not other parameters."""

from __future__ import annotations

from controlplane.domain.engines.engine import EngineConfig
from tuner.twin.setup import EngineSetup
from tuner.twin.steptime import StepCost


def slow_host(setup: EngineSetup, _: EngineConfig) -> EngineSetup:
    """A host that schedules step after step (no step in flight meanwhile) and slows down with the sequences."""
    changed = _costs(setup, schedule_s=3, schedule_sequence_s=4, output_s=2)
    return changed.evolve(async_scheduling=False)


def uneven_router(setup: EngineSetup, config: EngineConfig) -> EngineSetup:
    """Few experts get most tokens: their tiles are long, the others' nearly empty; worse in 8 bits."""
    worse = 2.0 if config.flags.get("quantization") == "fp8" else 1.0
    return _costs(setup, expert_knee_tokens=2.5 * worse, expert_token_s=1.4)


def slow_links(setup: EngineSetup, config: EngineConfig) -> EngineSetup:
    """GPUs that speak over PCIe although the sheet has NVLink; between four of them over the other socket."""
    return _costs(setup, allreduce_s=4.0 * max(1, config.tensor_parallel_size // 2), allreduce_token_s=12.0)


def fp8_cache_cliff(setup: EngineSetup, config: EngineConfig) -> EngineSetup:
    """What a real H200 showed: steps of many prompt tokens take far longer to launch with an fp8 KV cache."""
    if config.flags.get("kv-cache-dtype") != "fp8":
        return setup
    return _costs(setup, launch_eager_s=1.5, launch_piecewise_s=1.3)


def power_limit(setup: EngineSetup, _: EngineConfig) -> EngineSetup:
    """A card of 350 W: far slower after seconds of work, and small steps that wait for the bus."""
    changed = _costs(setup, token_s=1.2, weights_s=1.15, fixed_s=3)
    return changed.evolve(cost=changed.cost._replace(throttle=0.6))


def no_fp8_units(setup: EngineSetup, config: EngineConfig) -> EngineSetup:
    """8-bit weights are widened before every product, an 8-bit cache before every look."""
    if config.flags.get("quantization") == "fp8":
        setup = _costs(setup, token_s=1.35, knee_tokens=2)
    return _costs(setup, kv_token_s=1.8) if config.flags.get("kv-cache-dtype") == "fp8" else setup


def busy_server(setup: EngineSetup, _: EngineConfig) -> EngineSetup:
    """An API server that is the limit: takes requests in slowly and streams every token by itself."""
    return _costs(setup, intake_s=6, intake_token_s=4, output_s=5)


def small_graphs(setup: EngineSetup, _: EngineConfig) -> EngineSetup:
    """CUDA graphs up to 32 tokens only, whatever max-num-seqs says: nearly every step under load is launched anew."""
    return setup.evolve(cost=setup.cost._replace(graph_tokens=min(32.0, setup.cost.graph_tokens)))


def lost_blocks(setup: EngineSetup, config: EngineConfig) -> EngineSetup:
    """Most of the KV cache is held by something else, in 8 bits even more: sequences are preempted."""
    left = 0.12 if config.flags.get("kv-cache-dtype") == "fp8" else 0.15
    return setup.evolve(kv_blocks=max(600, int(setup.kv_blocks * left)))


def sized_sampler(setup: EngineSetup, _: EngineConfig) -> EngineSetup:
    """A sampler that works on the batch it was sized for, not on what is there: every step pays max-num-seqs."""
    cost = setup.cost
    return setup.evolve(cost=cost._replace(fixed_s=cost.fixed_s + 40e-6 * setup.max_num_seqs))


def short_chunks(setup: EngineSetup, _: EngineConfig) -> EngineSetup:
    """Prompts are cut into pieces of 768 tokens although the budget would hold more of each."""
    return setup.evolve(long_prefill_token_threshold=768)


def whole_eager(setup: EngineSetup, _: EngineConfig) -> EngineSetup:
    """CUDA graphs for decoding alone: any step that holds a prompt launches every kernel, however small it is."""
    return setup.evolve(cost=setup.cost._replace(launch_piecewise_s=setup.cost.launch_eager_s))


def padded_steps(setup: EngineSetup, _: EngineConfig) -> EngineSetup:
    """Kernels built for the largest step: matrix products compute a tenth of the budget besides what is there."""
    cost = setup.cost
    return setup.evolve(cost=cost._replace(knee_tokens=cost.knee_tokens + 0.1 * setup.max_num_batched_tokens))


def tight_allocator(setup: EngineSetup, config: EngineConfig) -> EngineSetup:
    """Where more than 0.9 of the memory is given, the allocator frees and takes it again in every step."""
    given = config.flags.get("gpu-memory-utilization", 0.92)
    slow = isinstance(given, float) and given > 0.9
    return setup.evolve(cost=setup.cost._replace(fixed_s=setup.cost.fixed_s + 0.012)) if slow else setup


def long_contexts(setup: EngineSetup, config: EngineConfig) -> EngineSetup:
    """Attention kernels of another generation: contexts are read at a third of the speed, in 8 bits at a fifth."""
    worse = 5.0 if config.flags.get("kv-cache-dtype") == "fp8" else 3.0
    return _costs(setup, kv_token_s=worse, pair_s=4.0)


def whole_prompts(setup: EngineSetup, _: EngineConfig) -> EngineSetup:
    """Attention that cannot go on with half a prompt: a step holds whole ones, so no budget below the longest acts."""
    tokens = max(setup.max_num_batched_tokens, setup.max_model_len)
    return setup.evolve(chunked_prefill=False, max_num_batched_tokens=tokens)


def _costs(setup: EngineSetup, **factors: float) -> EngineSetup:
    cost: StepCost = setup.cost
    return setup.evolve(cost=cost._replace(**{name: getattr(cost, name) * by for name, by in factors.items()}))
