"""What an engine pays for the first step of a size: kernels compiled then, and only then."""

from __future__ import annotations


class FirstUse:
    """Stalls once per power-of-two bucket of tokens in a step: 1, 2-3, 4-7, 8-15, ...

    A stand-in for kernels that are compiled when a size is met first (Triton, CUTLASS DSL): which sizes share a kernel
    differs from model to model, powers of two are a bucket that engines pad or tune by. Keep one per engine life.
    """

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._met: set[int] = set()

    def stall_s(self, tokens: int) -> float:
        """Return the seconds that a step of so many tokens waits before it runs, and remember its size."""
        bucket = tokens.bit_length()
        if bucket in self._met:
            return 0.0
        self._met.add(bucket)
        return self._stall_s
