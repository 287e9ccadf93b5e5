"""How far an engine's speed may be off even where its own kind was measured. 1-sigma relative errors.

Every figure is what leave-one-group-out over the published recordings asks for: the error of speed that holds nine in
ten of the percentiles of the group that was worst, and of which no parameter was fitted to that group
([results](../../docs/results/twin-validation.md)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tuner.twin.layers import Trait

_ONE_GPU, _ONE_GPU_LIVE, _SEVERAL_GPUS = 0.03, 0.04, 0.07
"""A kind of engine with probes and a trace; one with a minute of probes; one spread over GPUs."""
_MIXTURE = 0.06
"""One cell of one mixture is there: a judgement."""
_PER_HALVED_BUDGET, _MEASURED_BUDGET = 0.01, 8192
"""Of steps with fewer tokens the launch is a larger part, which varies more than kernels do: engines with 2,048 tokens,
left out of the fit. Larger budgets than 8,192 were not measured: as much for each doubling."""
_OTHER_CACHE = 0.055
"""Keys and values in other bits than the profile's engine kept, and as much again per halving of the token budget below
8,192: no profile was fitted with an fp8 cache. By the levels of seven studies on real H200s, left out one at a time
(`python -m benchmarks.fp8_cache`)."""
EXPERT_PARALLEL = 0.2
"""Whole experts on each of several GPUs: never measured, and no real router picks evenly. A judgement."""
PIPELINE = 0.25
"""Pipeline stages: never measured, and how evenly requests spread over the batches on their way is not followed. A
judgement."""

UNFOLLOWED = 0.35
"""Flags that change speed in ways the twin leaves out (`beyond.py`): speculative decoding alone is worth a half to
three times the speed. A judgement."""


def least_uncertainty(traits: Sequence[Trait], tensor_parallel_size: int, *, live: bool) -> float:
    """Return the least uncertainty of a fitted profile, however well it meets what it was fitted to."""
    if Trait.MIXTURE in traits:
        return _MIXTURE
    if tensor_parallel_size > 1:
        return _SEVERAL_GPUS
    return _ONE_GPU_LIVE if live else _ONE_GPU


def budget_step(batched_tokens: int) -> float:
    """Return what a token budget adds, in quadrature."""
    return _PER_HALVED_BUDGET * abs(math.log2(batched_tokens / _MEASURED_BUDGET))


def cache_step(kv_bits: int, measured_bits: int, batched_tokens: int) -> float:
    """Return what a KV cache of `kv_bits` adds to a profile measured with `measured_bits`, in quadrature."""
    if kv_bits == measured_bits:
        return 0.0
    return _OTHER_CACHE * (1 + max(0.0, math.log2(_MEASURED_BUDGET / batched_tokens)))
