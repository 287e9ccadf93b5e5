"""How the twin's hot functions are compiled."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit
from numba.extending import register_jitable

from tuner.twin.kept import sources, stamp_of

F = TypeVar("F", bound=Callable[..., Any])

# `_nrt=False`: none of these functions allocates, and without numba's run-time no array's references are counted at
# every call, which made the engine seven times slower. Compiled code is kept next to the source, or in the user's
# cache folder where that cannot be written.
_OPTIONS: dict[str, Any] = {"cache": True, "_nrt": False}


def compiled(function: F) -> F:
    """Compile on first call."""
    return cast(F, _stamped(njit(**_OPTIONS)(function)))


def inlined(function: F) -> F:
    """Compile into the callers: for what runs once per sequence of every step."""
    return cast(F, _stamped(njit(inline="always", **_OPTIONS)(function)))


def compilable(function: F) -> F:
    """Let compiled code call a plain function, which is compiled into it; Python goes on calling it as it is."""
    return register_jitable(_nrt=_OPTIONS["_nrt"])(function)


@functools.cache
def _stamp() -> str:
    return stamp_of(sources())


def _stamped(dispatcher: Any) -> Any:
    """Let kept code be code of all of the twin's sources.

    numba asks the file of a function alone, and would go on with a scheduler into which an earlier step time was
    compiled. It has no public way to say otherwise.
    """
    kept = dispatcher._cache._cache_file
    kept._source_stamp = (kept._source_stamp, _stamp())
    return dispatcher
