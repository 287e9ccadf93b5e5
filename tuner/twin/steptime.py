"""What one engine step costs, from its composition. One formula, used compiled and uncompiled alike.

Nothing here knows of numba: an emulated engine works one step at a time and is sooner done, and sooner started, without
(`compiled_steptime` compiles the same functions for `compiled`).

GPU time is a roofline (Williams et al. 2009, as in Vidur, MLSys 2024, and DistServe, OSDI 2024): the layers' matrix
products cost the larger of reading the weights once and the FLOPs of the tokens; attention of decoding sequences reads
their keys and values; attention of prompt chunks costs FLOPs per pair of token and context (FlashAttention); tensor
parallelism adds two all-reduces per layer. CPU time is the launch of the step's kernels: one replay for a full CUDA
graph, a replay per piece plus attention for a captured mixed step, every kernel for a step above the largest graph.
"""

from __future__ import annotations

import math
from typing import NamedTuple

_SHARPNESS = 4.0
"""How sharply the roofline turns from memory-bound to compute-bound (dimensionless norm)."""

_HEAT_S = 1.0
"""Over how long the GPU's power draw counts, seconds."""


class StepCost(NamedTuple):
    """Every constant of one engine (model × GPU × parallelism × profile), seconds unless the name says otherwise."""

    weights_s: float
    """Reading all weights once: the floor of every step."""
    token_s: float
    """Matrix products per token at the best efficiency."""
    knee_tokens: float
    """Tokens by which efficiency lags: `tokens` cost as much as `tokens + knee` would at the best efficiency."""
    half_tile: float
    """Share by which matrix products of about 24 tokens are slower: too many for the small-batch kernel, too few for
    the next. Mostly seen with fp8."""
    throttle: float
    """Share by which matrix products slow down when the GPU has done nothing else for seconds (power limit)."""
    experts_s: float
    """Reading all routed experts of all layers once; 0 without a mixture."""
    expert_token_s: float
    """Grouped matrix products of the experts one token is sent to, at the best efficiency."""
    expert_knee_tokens: float
    """Tokens by which grouped products lag: every expert that is touched computes whole tiles."""
    expert_share: float
    """Share of the experts one token is sent to."""
    expert_gpus: float
    """GPUs that hold whole experts each (expert parallelism); 1 where every GPU holds a slice of every expert."""
    expert_spread: float
    """By what share more than its part of a token's experts the busiest of them gets; less by the root of tokens."""
    kv_token_s: float
    """Reading one context token's keys and values for one decoding sequence, in layers that see everything."""
    kv_window_token_s: float
    """The same in layers that look back `window_tokens` only."""
    window_tokens: float
    pair_s: float
    """Attention of one (prompt token, context token) pair, in layers that see everything."""
    pair_window_s: float
    """The same in layers with a window."""
    sequence_s: float
    """Per sequence in the step: output head, sampling, input preparation, reading and writing its state."""
    fixed_s: float
    """Per step: normalisation, sampler, gaps between kernels."""
    allreduce_s: float
    """Per step: latency of all all-reduces; 0 without tensor parallelism."""
    allreduce_token_s: float
    """Per token: bytes of all all-reduces over the link."""
    launch_graph_s: float
    """CPU time to launch a decode-only step held by a full CUDA graph."""
    launch_piecewise_s: float
    """CPU time to launch a captured step that holds prompt tokens."""
    launch_eager_s: float
    """CPU time to launch a step above the largest graph (or any with enforce-eager)."""
    graph_tokens: float
    """Tokens of the largest captured CUDA graph; 0 with enforce-eager."""
    launch_blocks_core: float
    """1 when the scheduling thread itself launches (one GPU), 0 when worker processes do (several)."""
    prompt_s: float
    """CPU time per prompt chunk before a step can be launched: its inputs, block table and sampling state."""
    schedule_s: float
    """Engine core per step: scheduling and handling the previous output."""
    schedule_sequence_s: float
    """Engine core per sequence in the step."""
    intake_s: float
    """API server per request, one after another."""
    intake_token_s: float
    """API server per prompt token (parsing)."""
    output_s: float
    """API server per streamed chunk, one after another."""
    wire_s: float
    """Client and network per request: added once to every latency."""
    wire_token_s: float
    """Client per prompt token: building and sending the request."""


class StepLoad(NamedTuple):
    """What one step holds."""

    tokens: float
    """All tokens: one per decoding sequence, the chunk of each prompt."""
    sequences: float
    decode_context: float
    """Context tokens of the decoding sequences, summed."""
    prefill_pairs: float
    """Sum over prompt chunks of chunk × (context before + chunk / 2)."""
    prompt_tokens: float
    prompts: float
    """Prompt chunks."""


def gpu_s(cost: StepCost, load: StepLoad, heat: float) -> float:
    """Return the GPU time of a step, seconds; `heat` (0 to 1) says how hard the GPU has worked lately."""
    compute = matmul_s(cost, load) * (1.0 + cost.throttle * heat)
    linear: float = (cost.weights_s**_SHARPNESS + compute**_SHARPNESS) ** (1.0 / _SHARPNESS)
    linear *= 1.0 + cost.half_tile * half_tile_share(load.tokens)
    reduce = cost.allreduce_s + cost.allreduce_token_s * load.tokens
    experts = experts_s(cost, load.tokens, heat)
    return linear + experts + attention_s(cost, load) + reduce + cost.fixed_s + cost.sequence_s * load.sequences


def experts_s(cost: StepCost, tokens: float, heat: float) -> float:
    """Return the time of the routed experts, seconds: the larger (norm) of reading those touched and multiplying.

    A token picks k of E experts; of tokens that pick evenly, `tokens` leave (1 - k / E) ** tokens untouched. Where GPUs
    hold whole experts, the step lasts as long as the busiest of them works.
    """
    if cost.experts_s == 0.0 or tokens <= 0.0:
        return 0.0
    busiest = min(cost.expert_gpus, 1.0 + cost.expert_spread / math.sqrt(tokens))
    touched = min(1.0, (1.0 - (1.0 - cost.expert_share) ** tokens) * busiest)
    reading = cost.experts_s * touched
    compute = cost.expert_token_s * (tokens * busiest + cost.expert_knee_tokens * touched)
    compute *= 1.0 + cost.throttle * heat
    both: float = (reading**_SHARPNESS + compute**_SHARPNESS) ** (1.0 / _SHARPNESS)
    return both


def attention_s(cost: StepCost, load: StepLoad) -> float:
    """Return the time of attention, seconds; layers with a window look at no more than that for each token."""
    whole: float = cost.kv_token_s * load.decode_context + cost.pair_s * load.prefill_pairs
    if cost.window_tokens == 0.0:
        return whole
    decoding = max(load.sequences - load.prompts, 0.0)
    context = min(load.decode_context, cost.window_tokens * decoding)
    pairs = min(load.prefill_pairs, cost.window_tokens * load.prompt_tokens)
    return whole + cost.kv_window_token_s * context + cost.pair_window_s * pairs


def half_tile_share(tokens: float) -> float:
    """Return how far `tokens` falls between two kernels, 0 to 1: a roof from 12 over 24 to 48 tokens (measured)."""
    if tokens < 24.0:
        return max(0.0, (tokens - 12.0) / 12.0)
    return max(0.0, (48.0 - tokens) / 24.0)


def matmul_s(cost: StepCost, load: StepLoad) -> float:
    """Return the time of a step's matrix products on a cool GPU when nothing else limits them, seconds."""
    return cost.token_s * (load.tokens + cost.knee_tokens)


def cooled(heat: float, idle_s: float) -> float:
    """Return the heat after `idle_s` without work: a running mean over about a second, without exponentials."""
    return heat * _HEAT_S / (_HEAT_S + max(idle_s, 0.0))


def heated(heat: float, busy_s: float, matmul: float) -> float:
    """Return the heat after a step of `busy_s` of which `matmul` seconds were matrix products."""
    return heat + busy_s / (_HEAT_S + busy_s) * (min(matmul / busy_s, 1.0) - heat)


def launch_s(cost: StepCost, load: StepLoad) -> float:
    """Return the CPU time to launch a step, seconds."""
    if load.tokens > cost.graph_tokens:
        return cost.launch_eager_s
    if load.prompt_tokens > 0:
        return cost.launch_piecewise_s
    return cost.launch_graph_s
