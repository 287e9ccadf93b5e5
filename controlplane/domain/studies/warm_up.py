"""A fresh engine's warm-up: what it is asked before anything is measured, and what came of it."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import Field

from controlplane.domain.base import Value


class Probe(NamedTuple):
    """Prompts that reach an engine together, all of one length, and how long each answer is, tokens."""

    prompts: int
    prompt_tokens: int
    answer_tokens: int


class WarmUp(Value):
    """How a trial's engines were warmed up. Wall-clock seconds."""

    sweeps: int = Field(ge=0, description="Complete ones: each sends every probe once.")
    took_s: float = Field(ge=0, description="Of all probes. It counts as part of the start, in no level.")
    steady: bool = Field(description="The last two sweeps took equally long: nothing was compiled in them.")
    why: str | None = Field(default=None, description="What ended it before it was steady.")

    @property
    def note(self) -> str | None:
        """Say that what follows may hold stalls of a first use; None when the engine was in steady state."""
        if self.steady:
            return None
        why = "" if self.why is None else f" ({self.why})"
        return f"not in steady state before its first level: {self.sweeps} sweeps, {self.took_s:.0f} s{why}"

    def and_then(self, other: WarmUp) -> WarmUp:
        """Return both as one: an engine that joined those that run was warmed up too."""
        return WarmUp(
            sweeps=max(self.sweeps, other.sweeps),
            took_s=self.took_s + other.took_s,
            steady=self.steady and other.steady,
            why=self.why or other.why,
        )
