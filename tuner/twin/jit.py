"""How the twin's hot functions are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])

# `_nrt=False`: none of these functions allocates, and without numba's run-time no array's references are counted at
# every call, which made the engine seven times slower. Compiled code is kept next to the source, or in the user's
# cache folder where that cannot be written.
_OPTIONS: dict[str, Any] = {"cache": True, "_nrt": False}


def compiled(function: F) -> F:
    """Compile on first call."""
    return cast(F, njit(**_OPTIONS)(function))


def inlined(function: F) -> F:
    """Compile into the callers: for what runs once per sequence of every step."""
    return cast(F, njit(inline="always", **_OPTIONS)(function))
