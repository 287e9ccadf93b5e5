"""Starts on kernels that no trial spoke for: what the twin has a profile of its own for, it errs in most. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tuner.candidates import KINDS, MEASUREMENT_SD, Advice, Candidates, Mask, point_key
from tuner.space import Point
from tuner.surrogate import Belief

_PRECISION = "quantization"
_NEAR = 0.2  # log cost: a trial this close to the best of its kind speaks for it
_DISAPPOINTING = 0.2  # log cost: how much more the twin erred of a kind than of the best one tried
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


def disappointing_precision(among: Candidates, belief: Belief, open_rows: Mask, seen: Sequence[Point]) -> int | None:
    """Return the best one in another precision that promised as much but disappointed where it was tried, or None.

    The twin chose the settings that a precision was tried at. Where it misplaces a limit's cliff for it, the trial lay
    beyond the cliff, and all it tells is that the twin was wrong there: at the settings that proved good in another
    precision it may be the best of all. (Not so for parallel sizes: they have no cliffs of their own, and on
    70b-conv-4gpu-ttft such starts were wasted.)
    """
    stand = _stand(among, belief, seen)
    if stand is None or among.forecast is None:
        return None
    error = belief.mean - among.forecast
    found = []
    for row in _twins(among, open_rows, stand, most=2):
        if _unlike(among, stand.best, row) != {_PRECISION}:
            continue
        kind = np.array([point_kind == stand.kinds[row] for point_kind in stand.kinds])
        errors = [error[other] for other in stand.rows if kind[other]]
        promised = among.forecast[kind].min() <= among.forecast[stand.best] + _WITHIN_REACH
        if promised and errors and min(errors) > error[stand.best] + _DISAPPOINTING:
            found.append(row)
    return min(found, key=lambda row: belief.mean[row], default=None)


def last_look(among: Candidates, belief: Belief, open_rows: Mask, best: float, seen: Sequence[Point]) -> Advice | None:
    """Before the search ends: the best one tried, but on other kernels, all else equal; None when none is within reach.

    A limit makes capacity fall off a cliff, and a twin that is wrong by a fifth may see a whole family beyond it, or
    have sent the trials of that family beyond it. Every trial lies where the twin sent it and what is believed between
    trials is smooth, so neither can tell; one start of such a family can. It is within reach when the twin says so of
    the two alone, or any hypothesis does, the one without the twin included.
    """
    stand = _stand(among, belief, seen)
    if stand is None or among.forecast is None:
        return None
    unseen = _twins(among, open_rows, stand, most=1)
    farthest = among.forecast[stand.best] + _WITHIN_REACH
    near = [r for r in unseen if among.forecast[r] <= farthest or belief.means[:, r].min() <= best + _WITHIN_REACH]
    row = min(near, key=lambda r: belief.mean[r], default=None)
    if row is None:
        return None
    reason = "a last look at the best one's settings on other kernels"
    return Advice(row, reason, expected_log_cost=float(belief.mean[row]), best_row=row)


class _Stand(NamedTuple):
    """How the search stands: the rows tried, the best of them, and every candidate's kernels."""

    rows: Sequence[int]
    best: int
    kinds: Sequence[tuple[object, ...]]
    flags: frozenset[str]


def _stand(among: Candidates, belief: Belief, seen: Sequence[Point]) -> _Stand | None:
    flags = [flag for flag in KINDS if flag in among.space.names]
    rows = [row for point in seen if (row := among.row_of.get(point_key(point))) is not None]
    if not flags or not rows:
        return None
    best = rows[int(np.argmin((belief.mean + belief.sd)[rows]))]
    return _Stand(rows, best, [tuple(point[flag] for flag in flags) for point in among.points], frozenset(flags))


def _twins(among: Candidates, open_rows: Mask, stand: _Stand, *, most: int) -> list[int]:
    """Return the best one on other kernels, all else equal, unless a copy (`most` flags apart) was tried."""
    equal = [row for row in map(int, np.flatnonzero(open_rows)) if _unlike(among, stand.best, row) <= stand.flags]
    return [row for row in equal if not any(_is_copy(among, row, other, most=most) for other in stand.rows)]


def _unlike(among: Candidates, row: int, other: int) -> set[str]:
    """Return the flags in which two candidates differ."""
    return {flag for flag, value in among.points[row].items() if among.points[other][flag] != value}


def _is_copy(among: Candidates, row: int, other: int, *, most: int) -> bool:
    """Say whether two candidates differ in `most` flags at most, no kernels, that the twin says do not matter."""
    differing = _unlike(among, row, other)
    equal = among.forecast is not None and abs(among.forecast[row] - among.forecast[other]) < MEASUREMENT_SD
    return equal and len(differing) <= most and not differing & set(KINDS)


def _speaks_for(among: Candidates, row: int, top: int) -> bool:
    """Say whether a trial of `row` tells how good `top` is; without a forecast any of its kind does."""
    return among.forecast is None or bool(among.forecast[row] <= among.forecast[top] + _NEAR)
