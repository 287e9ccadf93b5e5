"""Figures are drawn once for what they show: an open page asks for the same ones every three seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_KEPT = 16  # of each function: as many browsers may look at different things before one draws for another


def drawn_once(draw: Callable[P, T]) -> Callable[P, T]:
    """Return what was drawn for equal values, if it is among the newest; nobody changes a figure that is drawn.

    Values are compared, not hashed: they hold mappings. That costs a hundredth of plotly's 20 to 180 ms of a figure.
    """
    kept: deque[tuple[tuple[Any, ...], dict[str, Any], T]] = deque(maxlen=_KEPT)

    @wraps(draw)
    def drawn(*args: P.args, **named: P.kwargs) -> T:
        for known, known_named, figure in tuple(kept):
            if known == args and known_named == named:
                return figure
        figure = draw(*args, **named)
        kept.append((args, named, figure))
        return figure

    return drawn
