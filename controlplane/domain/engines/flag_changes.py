"""What two engine configurations have different: what a person reads before a rollout, and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from controlplane.domain.engines.flags import FlagValue, canonical_flag


class FlagChange(NamedTuple):
    """One flag that differs; None where it is not set, and the engine's own default counts."""

    flag: str
    before: FlagValue | None
    after: FlagValue | None

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.flag}: {_text(self.after)} (was not set)"
        if self.after is None:
            return f"{self.flag}: no longer set (was {_text(self.before)})"
        return f"{self.flag}: {_text(self.before)} → {_text(self.after)}"


def flag_changes(
    before: Mapping[str, FlagValue | None], after: Mapping[str, FlagValue | None]
) -> tuple[FlagChange, ...]:
    """Return the flags that differ, by name. A flag that is None is the same as one that is not set."""
    was = {canonical_flag(name): value for name, value in before.items()}
    now = {canonical_flag(name): value for name, value in after.items()}
    names = sorted({*was, *now})
    return tuple(FlagChange(name, was.get(name), now.get(name)) for name in names if was.get(name) != now.get(name))


def laid_over(flags: Mapping[str, FlagValue], changes: Mapping[str, FlagValue | None]) -> dict[str, FlagValue]:
    """Return `flags` with `changes` over them; a change to None takes the flag away."""
    merged = {canonical_flag(name): value for name, value in flags.items()} | {
        canonical_flag(name): value for name, value in changes.items()
    }
    return {name: value for name, value in merged.items() if value is not None}


def _text(value: FlagValue | None) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
