"""Starts on kernels that no trial spoke for: what the twin has a profile of its own for, it errs in most. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tuner.candidates import KINDS, MEASUREMENT_SD, Advice, Candidates, Mask, point_key
from tuner.space import Point
from tuner.surrogate import Belief

_NEAR = 0.2  # log cost: a trial this close to the best of its kind speaks for it
_WITHIN_REACH = 0.3  # log cost: how wrong a twin may be about one kind against another


def unseen_kind(among: Candidates, belief: Belief, open_rows: Mask, best: float, seen: Sequence[Point]) -> int | None:
    """Return the most promising row of a split and precision that nothing near its best was tried with, or None.

    Communication between GPUs and the kernels of a precision are what a twin errs in most, and no trial without them
    tells how much.
    """
    flags = [flag for flag in KINDS if flag in among.space.names]
    if not flags or (among.forecast is None and not among.earlier):
        return None  # nothing says which of a kind is promising
    kinds = [tuple(point[flag] for flag in flags) for point in among.points]
    seen_rows = [row for point in seen if (row := among.row_of.get(point_key(point))) is not None]
    promising = []
    for kind in dict.fromkeys(kinds):
        rows = np.array([row for row, other in enumerate(kinds) if other == kind and open_rows[row]], dtype=int)
        if rows.size == 0:
            continue
        top = int(rows[np.argmin(belief.mean[rows])])
        tried_near_top = any(kinds[row] == kind and _speaks_for(among, row, top) for row in seen_rows)
        if not tried_near_top and belief.mean[top] < best + _WITHIN_REACH:
            promising.append(top)
    return min(promising, key=lambda row: belief.mean[row], default=None)


def last_look(among: Candidates, belief: Belief, open_rows: Mask, best: float, seen: Sequence[Point]) -> Advice | None:
    """Before the search ends: the best one tried, but on other kernels, all else equal; None when none is within reach.

    A limit makes capacity fall off a cliff, and a twin that is wrong by a fifth may see a whole family beyond it, or
    have sent the trials of that family beyond it. Every trial lies where the twin sent it and what is believed between
    trials is smooth, so neither can tell; one start of such a family can. It is within reach when the twin says so of
    the two alone, or any hypothesis does, the one without the twin included.
    """
    flags = [flag for flag in KINDS if flag in among.space.names]
    rows = [row for point in seen if (row := among.row_of.get(point_key(point))) is not None]
    if among.forecast is None or not flags or not rows:
        return None
    best_row = rows[int(np.argmin((belief.mean + belief.sd)[rows]))]
    twins = [r for r in map(int, np.flatnonzero(open_rows)) if _unlike(among, best_row, r) <= set(flags)]
    unseen = [row for row in twins if not any(_is_copy(among, row, other) for other in rows)]
    farthest = among.forecast[best_row] + _WITHIN_REACH
    near = [r for r in unseen if among.forecast[r] <= farthest or belief.means[:, r].min() <= best + _WITHIN_REACH]
    row = min(near, key=lambda r: belief.mean[r], default=None)
    if row is None:
        return None
    reason = "a last look at the best one's settings on other kernels"
    return Advice(row, reason, expected_log_cost=float(belief.mean[row]), best_row=row)


def _unlike(among: Candidates, row: int, other: int) -> set[str]:
    """Return the flags in which two candidates differ."""
    return {flag for flag, value in among.points[row].items() if among.points[other][flag] != value}


def _is_copy(among: Candidates, row: int, other: int) -> bool:
    """Say whether two candidates differ in one flag, no kernels, that the twin says does not matter."""
    differing = _unlike(among, row, other)
    equal = among.forecast is not None and abs(among.forecast[row] - among.forecast[other]) < MEASUREMENT_SD
    return equal and len(differing) <= 1 and not differing & set(KINDS)


def _speaks_for(among: Candidates, row: int, top: int) -> bool:
    """Say whether a trial of `row` tells how good `top` is; without a forecast any of its kind does."""
    return among.forecast is None or bool(among.forecast[row] <= among.forecast[top] + _NEAR)
