"""How long a pass may take, and what it was that took too long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from controlplane.telemetry.tracing import span

PASS_BUDGET_S = 2.0
"""An abort has to move its traffic within seconds of the verdict: a pass that is longer comes too late."""


class PassBudget:
    """Times the parts of one pass. Seconds of a clock that only goes forward."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._began_s = monotonic()
        self._parts_s: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what happens inside as this part of the pass."""
        began_s = self._monotonic()
        try:
            with span("controller.part", part=name):
                yield
        finally:
            self._parts_s[name] = self._parts_s.get(name, 0.0) + self._monotonic() - began_s

    def overrun(self) -> str | None:
        """Return what to say of a pass that took longer than its budget: its two longest parts; None of any other."""
        took_s = self._monotonic() - self._began_s
        if took_s <= PASS_BUDGET_S:
            return None
        longest = sorted(self._parts_s.items(), key=lambda part: -part[1])[:2]
        told = ", ".join(f"{name} {spent_s:.1f} s" for name, spent_s in longest)
        return f"this pass took {took_s:.1f} s, over its budget of {PASS_BUDGET_S:g} s: {told}"
