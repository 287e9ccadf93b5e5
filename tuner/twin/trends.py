"""How a profile's parameters move from engine to engine, learnt from the profiles there are.

The logarithm of each parameter is regressed (ridge) on precision, parallelism and size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tuner.twin.compiled_state import Floats
from tuner.twin.layers import Trait
from tuner.twin.profile import Parameters, Profile

_RIDGE = 0.5
"""Strength with which effects are held at zero, in units of one profile's evidence."""
_EXPERTS = frozenset(
    {"expert_memory_efficiency", "expert_matmul_efficiency", "expert_knee_rows"}
    | {"launch_graph_ms", "launch_piecewise_ms", "launch_eager_ms", "step_fixed_ms"}
)


def regressed(wanted: Profile, sources: Sequence[Profile]) -> Parameters:
    """Ridge regression with a free intercept: with one source its parameters, with many their trend.

    What a mixture makes different (its experts, many small kernels to launch) is learnt from mixtures alone and taught
    to mixtures alone.
    """
    mixtures = [profile for profile in sources if Trait.MIXTURE in profile.traits]
    dense = [profile for profile in sources if Trait.MIXTURE not in profile.traits] or mixtures
    values = {}
    for name in Parameters.model_fields:
        used = mixtures if name in _EXPERTS and Trait.MIXTURE in wanted.traits else dense
        if used:
            logs = np.log([max(getattr(profile.parameters, name), 1e-6) for profile in used])
            values[name] = float(np.exp(_weights(wanted, used) @ logs))
    return Parameters(**{name: min(value, 1.19) if "efficiency" in name else value for name, value in values.items()})


def _weights(wanted: Profile, sources: Sequence[Profile]) -> Floats:
    """Return how much each source counts in the estimate at `wanted`; they add up to 1."""
    here = _features(wanted, wanted)
    features = np.array([_features(profile, wanted) for profile in sources]) - here
    design = np.column_stack([np.ones(len(sources)), features])
    penalty = np.diag([1e-9, *[_RIDGE] * len(here)])
    solved: Floats = np.linalg.solve(design.T @ design + penalty, design.T)[0]
    return solved


def _features(profile: Profile, wanted: Profile) -> Floats:
    quantized = 1.0 if profile.weight_bits < 16 else 0.0
    size = float(np.log2((profile.linear_params or 1) / 1e9)) / 4
    elsewhere = 0.0 if profile.gpu == wanted.gpu else 1.0
    return np.array([quantized, float(np.log2(profile.tensor_parallel_size)), size, elsewhere])
