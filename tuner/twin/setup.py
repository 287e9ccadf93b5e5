"""From flags to a fully resolved engine: every default filled in as vLLM 0.26 would on that GPU."""

from __future__ import annotations

import math

from pydantic import Field

from controlplane.domain.adapters import DEFAULT_MAX_RANK
from controlplane.domain.base import Value
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import InvalidInput
from tuner.twin.beyond import largest_graph, shape_under, unfollowed
from tuner.twin.checkpoints import Checkpoint, online
from tuner.twin.costs import step_cost
from tuner.twin.flags import FlagReader
from tuner.twin.gpus import Gpu, find_gpu
from tuner.twin.memory import GIB, MemoryDemand, MemoryPlan, plan_memory, slot_gib
from tuner.twin.profile import Profile
from tuner.twin.shapes import ModelShape
from tuner.twin.stages import pipeline_problem
from tuner.twin.steptime import StepCost
from tuner.twin.transfer import profile_for
from tuner.twin.uncertainty import EXPERT_PARALLEL, PIPELINE, UNFOLLOWED, budget_step, cache_step

_SIXTEEN = ("bfloat16", "float16")

COPY_GIB_PER_S = 20.0
"""What goes to the host and back per GPU. vLLM's blog of 2025-10-26 reports wake-ups of 0.1 to 6 s up to 235B on four
A100, about this much; never measured here."""


class DoesNotFit(InvalidInput):
    """The engine would not start: not enough memory, or the model cannot be split that way."""


class NotModelled(InvalidInput):
    """The engine may well start, but the twin cannot say how fast it is."""


class EngineSetup(Value):
    """An engine as the scheduler sees it. Token counts, blocks of `block_size` tokens, seconds in `cost`."""

    max_num_seqs: int = Field(ge=1)
    max_num_batched_tokens: int = Field(ge=1)
    max_model_len: int = Field(ge=1)
    kv_blocks: int = Field(ge=1)
    block_size: int = Field(default=16, ge=1)
    chunked_prefill: bool = True
    long_prefill_token_threshold: int = Field(default=0, ge=0, description="Largest prompt chunk; 0 is no limit.")
    prefix_caching: bool = True
    priority_policy: bool = False
    async_scheduling: bool = True
    stream_interval: int = Field(default=1, ge=1)
    cost: StepCost
    gpus: int = Field(default=1, ge=1)
    expert_parallel: bool = Field(default=False, description="GPUs hold whole experts each.")
    pipeline_stages: int = Field(default=1, ge=1)
    kv_bits: int = Field(default=16, description="Of one key or value in the cache.")
    profile: Profile
    memory: MemoryPlan
    adapter_slots: int = Field(default=0, ge=0, description="Distinct LoRA adapters of a batch at most; 0: none run.")
    adapter_swap_s: float = Field(default=0, ge=0, description="Bringing one more of them onto the GPU.")
    unfollowed: tuple[str, ...] = Field(default=(), description="Flags whose effect on speed the twin leaves out.")

    @property
    def uncertainty(self) -> float:
        """1-sigma relative error of the engine's speed: the profile's, and what such a configuration adds to it."""
        tokens = self.max_num_batched_tokens
        cache = cache_step(self.kv_bits, self.profile.kv_bits, tokens)
        experts = EXPERT_PARALLEL if self.expert_parallel else 0.0
        beyond = UNFOLLOWED if self.unfollowed else 0.0
        stages = PIPELINE if self.pipeline_stages > 1 else 0.0
        return math.hypot(self.profile.uncertainty, budget_step(tokens), cache, experts, stages, beyond)

    @property
    def is_carried_over(self) -> bool:
        """True where no engine like this one was measured: another kind's profile, KV cache, or way of working."""
        other = self.unfollowed or self.pipeline_stages > 1 or self.kv_bits != self.profile.kv_bits
        return bool(self.profile.transferred_from or other)


def resolve(shape: ModelShape, gpu: str | Gpu, config: EngineConfig, profile: Profile | None = None) -> EngineSetup:
    """Return the engine `config` makes of `shape` on `gpu`; without a profile the nearest shipped one is carried over.

    Raises InvalidInput for an unknown GPU or a flag value of the wrong type, DoesNotFit when it could not start,
    NotModelled when it starts but its speed is not what the twin models.
    """
    sheet = find_gpu(gpu) if isinstance(gpu, str) else gpu
    flags = FlagReader(config)
    shape = _shape_under(shape, config)
    demand = memory_demand(shape, sheet, config)
    _check_split(shape, config)
    plan = plan_memory(shape, sheet, demand)
    if not plan.fits:
        raise DoesNotFit(
            f"{shape.name} does not fit on {config.gpus_per_replica} × {sheet.name}", why=plan.reason or ""
        )
    _check_modelled(demand)
    seqs = _max_num_seqs(sheet, flags, demand.max_num_batched_tokens)
    used = profile or profile_for(shape, sheet, demand.weight_bits, demand.tensor_parallel_size)
    asynchronous = flags.boolean("async-scheduling", default=True)
    graph = min(largest_graph(flags, seqs), demand.max_num_batched_tokens)
    return EngineSetup(
        max_num_seqs=seqs,
        max_num_batched_tokens=demand.max_num_batched_tokens,
        max_model_len=_length(demand, plan),
        kv_blocks=flags.integer("num-gpu-blocks-override", default=plan.kv_blocks, low=2),
        block_size=demand.block_size,
        chunked_prefill=flags.boolean("enable-chunked-prefill", default=True),
        long_prefill_token_threshold=flags.integer("long-prefill-token-threshold", default=0),
        prefix_caching=flags.boolean("enable-prefix-caching", default=True),
        priority_policy=flags.choice("scheduling-policy", ("fcfs", "priority"), default="fcfs") == "priority",
        async_scheduling=asynchronous,
        stream_interval=flags.integer("stream-interval", default=1, low=1),
        cost=step_cost(shape, sheet, demand, used.parameters, graph_tokens=graph),
        gpus=config.gpus_per_replica,
        expert_parallel=demand.expert_parallel and demand.tensor_parallel_size > 1,
        pipeline_stages=demand.pipeline_parallel_size,
        kv_bits=kv_bits(shape, config),
        profile=used,
        memory=plan,
        adapter_slots=demand.adapter_slots,
        adapter_swap_s=slot_gib(shape, demand) / COPY_GIB_PER_S,
        unfollowed=unfollowed(config),
    )


def memory_demand(shape: ModelShape, gpu: Gpu, config: EngineConfig) -> MemoryDemand:
    """Return what `config` asks of memory, vLLM's defaults filled in.

    Raises InvalidInput for a wrong value, NotModelled (one of them) for flags whose memory is not counted.
    """
    flags = FlagReader(config)
    _check_countable(config)
    fitted = flags.is_auto_length()
    max_len = shape.max_position_embeddings
    if not fitted:
        max_len = flags.integer("max-model-len", default=max_len, low=1)
    kv_cache = flags.integer("kv-cache-memory-bytes", default=0)
    return MemoryDemand(
        tensor_parallel_size=flags.integer("tensor-parallel-size", default=1, low=1),
        pipeline_parallel_size=flags.integer("pipeline-parallel-size", default=1, low=1),
        data_parallel_size=flags.integer("data-parallel-size", default=1, low=1),
        expert_parallel=flags.boolean("enable-expert-parallel", default=False),
        weights=stored_weights(shape, config),
        kv_bytes=kv_bits(shape, config) / 8,
        gpu_memory_utilization=flags.number("gpu-memory-utilization", default=0.92, low=0.01, high=1.0),
        kv_cache_gib=kv_cache / GIB if kv_cache else None,
        cpu_offload_gib=flags.number("cpu-offload-gb", default=0.0, low=0.0, high=1e6),
        max_model_len=max_len,
        longest_that_fits=fitted,
        max_num_batched_tokens=_max_num_batched_tokens(gpu, flags, max_len),
        block_size=flags.integer("block-size", default=16, low=1),
        **_adapter_room(flags),
    )


def _check_countable(config: EngineConfig) -> None:
    if str(config.flags.get("dtype", "auto")).lower() in ("float32", "float"):
        raise NotModelled("dtype float32: no prediction", why="weights and cache are counted in 16 bits")
    for name in ("decode-context-parallel-size", "prefill-context-parallel-size"):
        size = FlagReader(config).integer(name, default=1, low=1)
        if size > 1:
            why = "sequences are cut over GPUs, which the twin's cache does not know"
            raise NotModelled(f"{name} {size}: no prediction", why=why)


def _adapter_room(flags: FlagReader) -> dict[str, int]:
    if not flags.boolean("enable-lora", default=False):
        return {}
    rank = flags.integer("max-lora-rank", default=DEFAULT_MAX_RANK, low=1)
    return {"adapter_slots": flags.integer("max-loras", default=1, low=1), "adapter_rank": rank}


def stored_weights(shape: ModelShape, config: EngineConfig) -> Checkpoint:
    """Return how the weights lie in memory under `config`. Raises InvalidInput for an unknown quantization."""
    method = config.flags.get("quantization")
    if method is None or method is False:
        return shape.checkpoint
    return online(str(method), shape.checkpoint)


def weight_bits(shape: ModelShape, config: EngineConfig) -> int:
    """Return the class of precision under `config`, 16, 8 or 4. Raises InvalidInput for an unknown quantization."""
    return stored_weights(shape, config).bits


def kv_bits(shape: ModelShape, config: EngineConfig) -> int:
    """Return how many bits a key or value takes in the cache under `config`: where it says "auto", the checkpoint's.

    Raises InvalidInput for a type that is neither of 8 nor of 16 bits.
    """
    chosen = str(config.flags.get("kv-cache-dtype") or "auto")
    if chosen == "auto":
        return shape.checkpoint.kv_bits
    if chosen.startswith(("fp8", "int8")):
        return 8
    if chosen in _SIXTEEN:
        return 16
    raise InvalidInput(f"kv-cache-dtype {chosen} is unknown to the twin", allowed=f"auto, fp8, {', '.join(_SIXTEEN)}")


def _check_modelled(demand: MemoryDemand) -> None:
    if demand.data_parallel_size > 1:
        why = "requests are spread over several schedulers, which the twin does not model"
        raise NotModelled(f"data-parallel-size {demand.data_parallel_size}: no prediction", why=why)
    if demand.cpu_offload_gib > 0:
        why = "weights cross the host's bus in every step, which was never measured"
        raise NotModelled(f"cpu-offload-gb {demand.cpu_offload_gib:g}: no prediction", why=why)


def _length(demand: MemoryDemand, plan: MemoryPlan) -> int:
    if not demand.longest_that_fits:
        return demand.max_model_len
    return max(1, plan.longest_request)


def _shape_under(shape: ModelShape, config: EngineConfig) -> ModelShape:
    found = shape_under(shape, config)
    if found is None:
        why = "they may make another model of it than its config.json says"
        raise NotModelled("hf-overrides or hf-config-path: no prediction", why=why)
    return found


def split_problem(shape: ModelShape, tensor: int) -> str | None:
    """Return why no engine can split the model over `tensor` GPUs; None when it can.

    vLLM (`QKVParallelLinear`): whole heads for each GPU, and heads of keys and values shared evenly or kept by several.
    """
    if shape.num_attention_heads % tensor:
        return f"{shape.num_attention_heads} attention heads cannot be divided by tensor-parallel-size {tensor}"
    keys = next((n for n in (group.kv_heads for group in shape.layers) if n > 1 and n % tensor and tensor % n), None)
    if keys is None:
        return None
    return f"{keys} heads of keys and values can neither be divided by tensor-parallel-size {tensor} nor divide it"


def _check_split(shape: ModelShape, config: EngineConfig) -> None:
    problem = split_problem(shape, config.tensor_parallel_size)
    if problem is not None:
        tensor = config.tensor_parallel_size
        raise DoesNotFit(f"tensor-parallel-size {tensor} is impossible for {shape.name}", why=problem)
    stages = config.pipeline_parallel_size
    uncut = pipeline_problem(shape, stages)
    if uncut is not None:
        raise DoesNotFit(f"pipeline-parallel-size {stages} is impossible for {shape.name}", why=uncut)
    if shape.experts == 0 and FlagReader(config).boolean("enable-expert-parallel", default=False):
        raise DoesNotFit(f"enable-expert-parallel is impossible for {shape.name}", why="it has no experts")


def _max_num_batched_tokens(gpu: Gpu, flags: FlagReader, max_len: int) -> int:
    """vLLM: EngineArgs.get_batch_defaults for the API server; without chunking a whole prompt must fit."""
    tokens = flags.integer("max-num-batched-tokens", default=8192 if gpu.large_batch_defaults else 2048, low=1)
    given = flags.given("max-num-batched-tokens")
    if flags.boolean("enable-chunked-prefill", default=True):
        return tokens
    if given and tokens < max_len:
        why = f"max-num-batched-tokens {tokens} is below max-model-len {max_len} without chunked prefill"
        raise DoesNotFit("no step could hold the longest prompt", why=why)
    return max(tokens, max_len)


def _max_num_seqs(gpu: Gpu, flags: FlagReader, batched_tokens: int) -> int:
    seqs = flags.integer("max-num-seqs", default=1024 if gpu.large_batch_defaults else 256, low=1)
    if seqs <= batched_tokens:
        return seqs
    if flags.given("max-num-seqs") and flags.given("max-num-batched-tokens"):
        why = f"max-num-batched-tokens {batched_tokens} must be at least max-num-seqs {seqs}"
        raise DoesNotFit("the batch limits contradict each other", why=why)
    return batched_tokens
