"""How many GPU-seconds a trial of each candidate is expected to take, learned from the study's own starts. Pure.

An engine compiles its model once per *compile class* and host: vLLM keeps the result (VLLM_CACHE_ROOT) under a hash of
its version and of every setting that changes the compiled graph, the token budget and the KV cache's type among them.
Later starts of the class load it. The first start on a host also brings the weights into the page cache. The logarithm
of a start's seconds is taken as a level plus a bit for each of these, with Gaussian priors (Bayesian linear regression:
Bishop, "Pattern Recognition and Machine Learning", 2006, section 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlplane.domain.engines.engine import EngineConfig

Array = NDArray[np.float64]

NOT_COMPILED_IN = frozenset(
    {
        "enable-chunked-prefill",
        "enable-prefix-caching",
        "gpu-memory-utilization",
        "kv-cache-memory-bytes",
        "long-prefill-token-threshold",
        "max-long-partial-prefills",
        "max-num-partial-prefills",
        "max-num-queued-reqs",
        "max-num-queued-tokens",
        "max-num-seqs",
        "prefix-caching-hash-algo",
        "scheduling-policy",
    }
)
"""Flags that vLLM leaves out of its compile cache's name (`compute_hash` of its SchedulerConfig and CacheConfig).

Any other flag is taken to make a class of its own: to be wrong there costs seconds, not a result. Some versions after
0.26 put max-num-seqs into the name; the study's own starts then show classes to be worth little.
"""

_IN_CLASS_S = 80.0
_FRESH, _FIRST, _DOUBLING = 0.38, 0.0, 0.12
"""Of real vLLM 0.26 with an 8B shape on H200 (docs/results/h200-2026-11-25.md): one GPU, class started before: 75, 81
and 86 s; class not started before: 103, 111, 128 and 134 s, and with two GPUs 144 s. Doubling the GPUs also by the
pairs of starts among the measurements behind the shipped profiles: 11, -4 and 27 %. Their checkpoints had no weights to
read, so nothing is known of the first start on a host."""
_PRIOR = np.array([math.log(_IN_CLASS_S), _FRESH, _FIRST, _DOUBLING])
_PRIOR_SD = np.array([0.7, 0.2, 0.3, 0.1])  # other models, hosts and engines differ most in the level
_NOISE_SD = 0.1
_WHOLE_LEVELS = 2.5  # levels of full length that a trial's levels take together: one when dropped, some end early


class Start(NamedTuple):
    """One start of the study. Seconds are None while it is under way, or where nobody wrote them down."""

    row: int
    start_s: float | None = None
    levels_s: float | None = None
    host: str | None = None


class TrialTime(NamedTuple):
    """What a trial's seconds depend on, per candidate. `level_s` is the longest a level may take, in real seconds."""

    gpus: Array
    classes: NDArray[np.int64]
    level_s: float

    def expected_gpu_s(self, starts: Sequence[Start], *, host: str | None = None, compile_share: float = 1.0) -> Array:
        """Return the GPU-seconds a trial of each candidate takes on `host` after `starts`, in the order they began.

        `compile_share` of what compiling a class takes is charged to the trial that does it first.
        """
        compiled_s, fresh_s = self._start_s(starts, host)
        charged_s = compiled_s + compile_share * (fresh_s - compiled_s)
        return np.asarray(self.gpus * (charged_s + self._levels_s(starts)))

    def _start_s(self, starts: Sequence[Start], host: str | None) -> tuple[Array, Array]:
        """Return what starts take when their class is compiled, and as things are."""
        doublings = np.log2(self.gpus)
        seen, hosts = set[tuple[str | None, int]](), set[str | None]()
        known, logs = [], []
        for start in starts:
            name = (start.host, int(self.classes[start.row]))
            if start.start_s:
                known.append((1.0, name not in seen, start.host not in hosts, doublings[start.row]))
                logs.append(math.log(start.start_s))
            seen.add(name)
            hosts.add(start.host)
        here = [number for place, number in seen if place == host]
        fresh = ~np.isin(self.classes, here)
        ones = np.ones(len(self.gpus))
        wanted = np.column_stack((ones, fresh, ones * (host not in hosts), doublings))
        found = _coefficients(np.array(known, dtype=float).reshape(-1, len(_PRIOR)), np.array(logs))
        return np.exp(wanted * (1, 0, 1, 1) @ found), np.exp(wanted @ found)

    def _levels_s(self, starts: Sequence[Start]) -> float:
        """Return the mean of what trials' levels took, the guess counting as one of them."""
        known = [start.levels_s for start in starts if start.levels_s is not None]
        return (_WHOLE_LEVELS * self.level_s + sum(known)) / (1 + len(known))


def trial_time(configs: Sequence[EngineConfig], *, level_s: float) -> TrialTime:
    """Return what the trials of these configurations depend on."""
    gpus = np.array([float(config.gpus_per_replica) for config in configs])
    names = [compile_class(config) for config in configs]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return TrialTime(gpus, np.array([numbers[name] for name in names], dtype=np.int64), level_s)


def compile_class(config: EngineConfig) -> frozenset[tuple[str, object]]:
    """Return what the engine's compile cache is named by, as far as flags decide it."""
    return frozenset((flag, value) for flag, value in config.flags.items() if flag not in NOT_COMPILED_IN)


def _coefficients(known: Array, logs: Array) -> Array:
    """Return the posterior mean of the coefficients."""
    precision = np.diag(_PRIOR_SD**-2.0)
    evidence = known.T @ known / _NOISE_SD**2
    told = known.T @ (logs - known @ _PRIOR) / _NOISE_SD**2
    return np.asarray(_PRIOR + np.linalg.solve(precision + evidence, told))
