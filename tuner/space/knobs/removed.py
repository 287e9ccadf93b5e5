"""Flags that `vllm serve` once had: when they went, and what to write instead."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources

from pydantic import Field

from controlplane.domain.base import Value


class RemovedFlag(Value):
    """A flag that left vLLM. Both releases were read; in which one between them it went is not claimed."""

    had: str = Field(description="The last release read that has it.")
    lacks: str = Field(description="The first release read that has not.")
    instead: str | None = Field(default=None, description="What to do instead; None where nothing takes its place.")

    def __str__(self) -> str:
        found = f"was removed ({self.had} has it, {self.lacks} has not)"
        return f"{found}: {self.instead}" if self.instead else found


class RemovedFlags(Value):
    source: str
    flags: Mapping[str, RemovedFlag]


@cache
def removed_flags() -> Mapping[str, RemovedFlag]:
    """Return every known flag that is in no schema that ships, by long name."""
    return RemovedFlags.model_validate_json((resources.files("tuner.space.knobs") / "removed.json").read_text()).flags
