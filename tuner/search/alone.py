"""The search without a twin: a spread of starts first, then a Gaussian process that learns which flags matter. Pure.

Without a forecast a Gaussian process is unsurest in the corners of the space, where engines are seldom good: the first
starts are spread as a Latin hypercube instead (McKay, Beckman, Conover, 1979). Most flags hardly matter, and which ones
is learnt, so that few starts are spent on the copies of a good one.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence

import numpy as np
from scipy.stats import qmc

from tuner.search.candidates import Advice, Candidates, Mask, Tried, point_key
from tuner.space.space import Dimension, Point

_NEAR = 0.3  # log cost: a trial farther from the best one says nothing of a flag's value beside it
FIRST = 4
"""Starts after the baseline that are spread."""


def spread_row(among: Candidates, open_rows: Mask, tried: int, *, seed: int) -> int | None:
    """Return the row of the design to start after `tried` trials (the baseline's included); None when it is done."""
    if not 1 <= tried <= FIRST:
        return None
    design = qmc.LatinHypercube(
        d=len(among.space.dimensions), rng=np.random.default_rng(seed), optimization="random-cd"
    )
    wanted = design.random(FIRST)[tried - 1]
    rows = np.flatnonzero(open_rows)
    places = np.array([_places(among, int(row)) for row in rows])
    return int(rows[int(np.argmin(np.square(places - wanted).sum(axis=1)))])


def unseen_value(
    among: Candidates, open_rows: Mask, tried: Sequence[Tried], relevance: Sequence[float]
) -> Advice | None:
    """Before the search ends: the best one tried, one flag moved to the middle of the widest range of its values that
    nothing as good was tried with, flags that matter first; None when no range is left.

    What is believed between trials is smooth, limits are not.
    """
    costs = [(trial.log_cost, trial.point) for trial in tried if trial.log_cost is not None]
    if not costs:
        return None
    least, best = min(costs, key=lambda each: each[0])
    near = [point for cost, point in costs if cost <= least + _NEAR]
    found = [
        (matters, width, row)
        for dimension, matters in zip(among.space.dimensions, relevance, strict=True)
        for row, width in _middle_rows(among, dimension, best, near)
        if open_rows[row]
    ]
    if not found:
        return None
    row = max(found)[2]
    return Advice(row, "a last look at a value that nothing as good was tried with", best_row=row)


def _middle_rows(
    among: Candidates, dimension: Dimension, best: Point, near: Sequence[Point]
) -> Iterator[tuple[int, float]]:
    """Yield the rows in the middle of what no point of `near` has of a flag, and each range's share of its values."""
    choices = dimension.choices
    seen = {choices.index(point[dimension.flag]) for point in near if point[dimension.flag] in choices}
    for place, width in _middles(seen, len(choices)):
        point = among.space.canonical({**best, dimension.flag: choices[place]})
        row = among.row_of.get(point_key(point))
        if row is not None:
            yield row, width / len(choices)


def _middles(seen: Collection[int], count: int) -> Iterator[tuple[int, int]]:
    """Yield the middle and the width of every range of places that were not seen."""
    edges = sorted({-1, count, *seen})
    for low, high in itertools.pairwise(edges):
        if high - low > 1:
            yield (low + high) // 2, high - low - 1


def _places(among: Candidates, row: int) -> list[float]:
    """Return where a point lies in every dimension, 0 to 1: a number from end to end of its grid, so that the ends are
    half as wide as what lies between (engines are seldom good there); another choice as wide as any other.
    """
    return [_place(dimension, among.points[row][dimension.flag]) for dimension in among.space.dimensions]


def _place(dimension: Dimension, value: object) -> float:
    index, count = (*dimension.choices, None).index(value), len(dimension.choices)
    if dimension.is_numeric and count > 2 and index < count:
        return index / (count - 1)
    return (index + 0.5) / count
