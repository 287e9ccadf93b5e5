"""The forecast with its bends elsewhere: what a twin would say in whose eyes a flag binds sooner or later. Pure.

Cost changes with a flag until the flag no longer binds, or falls off a cliff where a limit is missed. A twin that is
wrong by a fifth in several ways at once sees such a bend at another value than the engine has it. What is flat in its
eyes may then still bind, and no smooth correction of its numbers says so; the same forecast moved along the flag does.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tuner.space.space import Dimension, Point, Space

_FACTOR = 1.5
"""By how much of the flag's value a bend may lie elsewhere. Parameters that are 20 to 30 % off compound to that."""

_Rows = NDArray[np.int64]


class Bend(NamedTuple):
    """For every point the two neighbours whose forecasts it takes, and the share of the second."""

    low: _Rows
    high: _Rows
    share: NDArray[np.float64]

    def of(self, forecast: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the forecast with its bends moved."""
        return np.asarray((1 - self.share) * forecast[self.low] + self.share * forecast[self.high])


def bends(space: Space, points: Sequence[Point], *, without: Collection[str]) -> tuple[Bend, ...]:
    """Return the ways a forecast of these points may be moved: either way along each numeric flag but `without`."""
    codes = np.array([[(*d.choices, None).index(p[d.flag]) for d in space.dimensions] for p in points], dtype=np.int64)
    sizes = np.array([len(d.choices) + 1 for d in space.dimensions], dtype=np.int64)
    strides = np.concatenate((np.cumprod(sizes[::-1])[::-1][1:], [1]))
    rows = _RowOf(codes @ strides)
    movable = [n for n, d in enumerate(space.dimensions) if d.flag not in without and _is_movable(d)]
    return tuple(_bend(rows, codes, strides, space, n, factor) for n in movable for factor in (_FACTOR, 1 / _FACTOR))


class _RowOf:
    """Finds the row of a point's number; a point that is no candidate gives the row it was asked from."""

    def __init__(self, numbers: _Rows) -> None:
        self.numbers = numbers
        self._order = np.argsort(numbers)
        self._sorted = numbers[self._order]

    def at(self, wanted: _Rows) -> _Rows:
        place = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        return np.where(self._sorted[place] == wanted, self._order[place], np.arange(len(wanted)))


def _bend(rows: _RowOf, codes: _Rows, strides: _Rows, space: Space, number: int, factor: float) -> Bend:
    low, share = _moved(space.dimensions[number], factor)
    here = codes[:, number]
    high = np.minimum(low + 1, len(low) - 2)  # the last code stands for a flag that is left out
    high[-1] = low[-1]
    first = rows.at(rows.numbers + (low[here] - here) * strides[number])
    second = rows.at(rows.numbers + (high[here] - here) * strides[number])
    return Bend(first, second, share[here])


def _moved(dimension: Dimension, factor: float) -> tuple[_Rows, NDArray[np.float64]]:
    """Return per choice (and for none) where its multiple lies among the choices: the one below, and how far on."""
    values = np.log([float(value) for value in dimension.choices if isinstance(value, int | float)])
    order = np.arange(len(values))
    places = np.interp(values + np.log(factor), values, order)
    low = np.floor(places).astype(np.int64)
    return np.append(low, len(values)), np.append(places - low, 0.0)


def _is_movable(dimension: Dimension) -> bool:
    numbers = [value for value in dimension.choices if isinstance(value, int | float) and not isinstance(value, bool)]
    ordered = all(low < high for low, high in itertools.pairwise(numbers))
    return dimension.is_numeric and len(numbers) > 2 and numbers[0] > 0 and ordered
