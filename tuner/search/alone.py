"""The search without a twin: whose turn it is, and what is looked at before the model has nothing to expect. Pure.

A model that knows little is led astray by its own proposals: a Gaussian process is unsurest in the corners of a space,
where engines are seldom good, and then between copies of the best one. What is drawn at random has neither fault. So
the first starts are drawn, as random search draws them: in those this search cannot be worse. Then the model chooses,
but among as many draws as there were trials: were its ranking worth nothing, the choice would still be a draw. Later
every other start is TPE's, which samples around what was good and sees what one model does not.

Most flags hardly matter, and which ones is learnt, so that few starts are spent on the copies of a good one.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from enum import Enum, auto

from tuner.search.candidates import Advice, Candidates, Mask, Tried, point_key
from tuner.space.space import Dimension, Point

_NEAR = 0.3  # log cost: a trial farther from the best one says nothing of a flag's value beside it
FIRST = 4
"""Starts after the baseline that are drawn, the very ones that random search with the same seed would draw."""
_MODEL_ALONE = 8
"""Trials after which every other start is TPE's."""


class Turn(Enum):
    """Who chooses the next start."""

    CHANCE = auto()
    MODEL = auto()
    TPE = auto()


def whose_turn(begun: int, *, knows_earlier: bool) -> Turn:
    """Return who chooses after `begun` trials (the baseline's included). Who knows an earlier study draws nothing."""
    if 1 <= begun <= FIRST and not knows_earlier:
        return Turn.CHANCE
    return Turn.TPE if begun > _MODEL_ALONE and (begun - _MODEL_ALONE) % 2 == 0 else Turn.MODEL


def draws(begun: int) -> int:
    """Return among how many draws the model chooses after `begun` trials."""
    return max(1, begun)


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
