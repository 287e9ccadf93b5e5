"""The true engines of a scenario: no profile that ships, and no mere rescaling of one.

Each parameter of the profile that the product would carry over is off by some 20 %, as the scenario's seed says. Beyond
that the truth has what the twin's formula has not: every kind of engine (precision, cache precision, parallelism) has a
speed of its own, a sequence costs more the more of them the engine may hold, and less memory is left for the KV cache
than planned, the less the larger the batches: some starts that look possible run out of memory.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from controlplane.domain.engines.engine import EngineConfig
from tuner.twin.gpus import find_gpu
from tuner.twin.profile import Parameters, Profile
from tuner.twin.setup import DoesNotFit, EngineSetup, resolve, weight_bits
from tuner.twin.shapes import ModelShape
from tuner.twin.transfer import profile_for

_PARAMETER_SD = 0.2  # log; of every parameter of a profile
_KIND_SD = 0.08  # log; speed of a kind of engine
_CROWDING = 0.15  # share by which a sequence costs more per doubling of max-num-seqs beyond 64
_RESERVE_GIB, _RESERVE_GIB_PER_8192 = 0.6, 1.2  # beyond the plan: always, and per 8192 batched tokens


@dataclass(frozen=True)
class Nature:
    """One model on one type of GPU. `seed` fixes how it differs from what the product believes."""

    shape: ModelShape
    gpu: str
    seed: int
    _setups: dict[str, EngineSetup | None] = field(default_factory=dict)

    def setup(self, config: EngineConfig) -> EngineSetup | None:
        """Return the true engine of a configuration; None when it runs out of memory as it starts."""
        name = config.content_hash()
        if name not in self._setups:
            self._setups[name] = self._resolved(config)
        return self._setups[name]

    def _resolved(self, config: EngineConfig) -> EngineSetup | None:
        try:
            believed = resolve(self.shape, self.gpu, config, self._profile(config))
        except DoesNotFit:
            return None
        tokens = self._kv_tokens(believed)
        if tokens < believed.max_model_len:
            return None
        crowd = 1 + _CROWDING * max(0.0, math.log2(believed.max_num_seqs / 64))
        cost = believed.cost._replace(sequence_s=believed.cost.sequence_s * crowd)
        return believed.evolve(kv_blocks=tokens // believed.block_size, cost=cost)

    def _kv_tokens(self, believed: EngineSetup) -> int:
        plan = believed.memory
        more = _RESERVE_GIB + _RESERVE_GIB_PER_8192 * believed.max_num_batched_tokens / 8192
        return int(plan.kv_tokens * max(0.0, plan.kv_gib - more) / plan.kv_gib)

    def _profile(self, config: EngineConfig) -> Profile:
        bits, tensor = weight_bits(self.shape, config), config.tensor_parallel_size
        carried = profile_for(self.shape, find_gpu(self.gpu), bits, tensor)
        kind = self._chance(f"{bits} {tensor} {config.flags.get('kv-cache-dtype', 'auto')}").gauss(0, _KIND_SD)
        return carried.evolve(parameters=_drifted(carried.parameters, self._chance("parameters"), kind))

    def _chance(self, what: str) -> random.Random:
        return random.Random(f"{self.shape.name} {self.gpu} {self.seed} {what}")


def _drifted(parameters: Parameters, chance: random.Random, kind: float) -> Parameters:
    """Scale every parameter by chance; times by the kind's speed too, efficiencies against it within their limits."""
    changed = {}
    for name in Parameters.model_fields:
        is_efficiency = name.endswith("efficiency")
        factor = math.exp(chance.gauss(0, _PARAMETER_SD) * (0.6 if is_efficiency else 1.0))
        factor *= math.exp(-kind if is_efficiency else kind)
        limit = 1.19 if is_efficiency else math.inf
        changed[name] = min(getattr(parameters, name) * factor, limit)
    return parameters.evolve(**changed)
