"""When a fresh engine is in steady state, and what it is asked until it is. Pure.

Engines compile some kernels when a size is met first (vLLM 0.26: "Triton kernel JIT compilation during inference"),
which stalls everything inside for seconds. What is measured meanwhile is the compiler, not the configuration.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.errors import InvalidInput
from controlplane.domain.studies.warm_up import Probe
from tuner.space.knobs.words import words_of
from tuner.twin.flags import FlagReader

MOST_SWEEPS = 5
_ALIKE = 1.25
_SLACK_S = 0.5  # emulated: a sweep of a second is not told apart from one of 1.4
_MOST_TOGETHER = 256  # sequences of one batch
_MOST_IN_STEP = 8192  # tokens: vLLM's own budget on large GPUs, where none is set
_SMALLEST_STEP = 16
_SHORT, _ANSWER = 4, 8  # tokens: less than a block of any cache, so that a batch decodes together for some steps
_ROOM = 16  # tokens of a context that are left for an answer


def is_steady(sweeps_s: Sequence[float]) -> bool:
    """Say whether the last of equal sweeps took as long as the fastest before it: then nothing was compiled in it.

    Seconds, in order. Alike is within 1.25 times and half a second, either way: a sweep much faster than all before
    shows that those still compiled, and nothing of itself.
    """
    if len(sweeps_s) < 2:
        return False
    fastest, last = min(sweeps_s[:-1]), sweeps_s[-1]
    return max(fastest, last) <= _ALIKE * min(fastest, last) + _SLACK_S


def sweep(kind: EngineKind, config: EngineConfig, *, longest: int) -> tuple[Probe, ...]:
    """Return one sweep: batches of every doubled size, then steps of every doubled number of prompt tokens.

    `longest` is the workload's longest prompt, tokens; the flags of `config` bound it, the batch and the step. Beside
    each power of two stands the number below it: Triton compiles apart what 16 divides and what it does not.
    """
    length = _flag(kind, config, "longest sequence", longest + _ROOM)
    prompt = max(1, min(longest, length - _ROOM))
    together = min(_flag(kind, config, "requests in a batch", _MOST_TOGETHER), _MOST_TOGETHER)
    step = min(_flag(kind, config, "tokens of one step", _MOST_IN_STEP), _MOST_IN_STEP)
    batches = tuple(Probe(size, min(_SHORT, prompt), _ANSWER) for size in _sizes(1, together))
    return (*batches, *(_step(size, prompt) for size in _sizes(_SMALLEST_STEP, step)), Probe(1, prompt, 1))


def _flag(kind: EngineKind, config: EngineConfig, knob: str, default: int) -> int:
    """Return an engine's own number for a knob; the default where it says none, or nothing that is a number."""
    for name in (word for word in words_of(knob, kind) if word in config.flags):
        with contextlib.suppress(InvalidInput):  # -1: as long as fits
            return FlagReader(config).integer(name, default=default, low=1)
    return default


def _step(tokens: int, longest: int) -> Probe:
    """Return prompts that make a step of about so many tokens; answers of one token: the step is all there is.

    Where it takes several prompts, the first is in a step of its own before the others are in: one more of them.
    """
    prompts = -(-tokens // longest)
    return Probe(prompts + (prompts > 1), tokens // prompts, 1)


def _sizes(first: int, last: int) -> list[int]:
    """Return `first` doubled up to `last`, each with the number below it, and `last`."""
    doubled = [first << power for power in range(max(1, (last // first).bit_length()))]
    return sorted({size for each in (*doubled, last) for size in (each - 1, each) if first <= size <= last})
