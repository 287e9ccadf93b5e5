"""Starts on kernels that no trial spoke for: what the twin has a profile of its own for, it errs in most. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from controlplane.domain.engines.flags import FlagValue
from tuner.search.candidates import KINDS, MEASUREMENT_SD, Advice, Candidates, Mask, point_key
from tuner.search.surrogate import Belief
from tuner.space.space import Dimension, Point

_PRECISION = "quantization"
_NEAR = 0.2  # log cost: a trial this close to the best of its kind speaks for it
_DISAPPOINTING = 0.2  # log cost: how much more the twin erred of a kind than of the best one tried
_WITHIN_REACH = 0.3  # log cost: how wrong a twin may be about one kind against another


def unseen_kind(among: Candidates, belief: Belief, open_rows: Mask, best: float, seen: Sequence[Point]) -> int | None:
    """Return the most promising row of a split and precision that nothing near its best was tried with, or None.

    Communication between GPUs and the kernels of a precision are what a twin errs in most, and no trial without them
    tells how much.
    """
    if not _flags(among) or (among.forecast is None and not among.earlier):
        return None  # nothing says which of a kind is promising
    kinds = _kinds(among)
    seen_rows = _rows(among, seen)
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
    kinds, error = _kinds(among), belief.mean - among.forecast
    found = []
    for row in _unseen(among, open_rows, stand, _other_precisions(among, stand.best), most=2):
        kind = np.array([each == kinds[row] for each in kinds])
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
    equal = [row for row in range(len(among.points)) if _unlike(among, stand.best, row) <= set(KINDS)]
    unseen = _unseen(among, open_rows, stand, equal, most=1)
    farthest = among.forecast[stand.best] + _WITHIN_REACH
    near = [r for r in unseen if among.forecast[r] <= farthest or belief.means[:, r].min() <= best + _WITHIN_REACH]
    row = min(near, key=lambda r: belief.mean[r], default=None)
    if row is None:
        return None
    reason = "a last look at the best one's settings on other kernels"
    return Advice(row, reason, expected_log_cost=float(belief.mean[row]), best_row=row)


def unseen_step(
    among: Candidates, belief: Belief, open_rows: Mask, best: float, seen: Sequence[Point]
) -> Advice | None:
    """Return the best one tried, one flag moved a step to where nothing was tried, however the twin sees it; None when
    no such step is within reach.

    Where a limit's cliff lies along a flag is what a twin misplaces, and a copy of what was tried (in the twin's eyes)
    does not tell. Only flags that matter to the twin count: where it sees no difference the surrogate looks by itself.
    """
    stand = _stand(among, belief, seen)
    if stand is None or among.forecast is None:
        return None
    here = among.forecast[stand.best]
    steps = [r for r in _steps(among, stand) if open_rows[r] and abs(among.forecast[r] - here) >= MEASUREMENT_SD]
    near = [r for r in steps if _is_within_reach(among.forecast[r] - here, belief.means[:, r].min() - best)]
    row = min(near, key=lambda r: belief.mean[r], default=None)
    if row is None:
        return None
    reason = "one step beside the best one, where nothing was tried: a limit may lie elsewhere than the twin has it"
    return Advice(row, reason, expected_log_cost=float(belief.mean[row]), best_row=row)


def is_copy_of_tried(among: Candidates, row: int, seen: Sequence[Point]) -> bool:
    """Say whether the twin sees no difference between a candidate and something that was tried."""
    return any(_is_copy(among, row, other, most=2) for other in _rows(among, seen))


def _is_within_reach(forecast: float, believed: float) -> bool:
    return forecast <= _WITHIN_REACH or believed <= _WITHIN_REACH


def _steps(among: Candidates, stand: _Stand) -> list[int]:
    """Return the rows one value of a flag beside the best: of a number the next one, where none of its kernel was tried
    so far out, else any other that none was tried with.
    """
    point, kinds = among.points[stand.best], _kinds(among)
    alike = [among.points[row] for row in stand.rows if kinds[row] == kinds[stand.best]]
    found = []
    for dimension in among.space.dimensions:
        flag = dimension.flag
        if flag not in KINDS and point[flag] in dimension.choices:
            values = _beside(dimension, point[flag], {each[flag] for each in alike})
            found += [among.row_of.get(point_key({**point, flag: value})) for value in values]
    return [row for row in found if row is not None]


def _beside(dimension: Dimension, value: FlagValue | None, seen: Collection[object]) -> list[FlagValue | None]:
    """Return a flag's values beside one, in directions that were not seen."""
    order = dimension.choices
    if not dimension.is_numeric:
        return [other for other in order if other not in seen]
    here, places = order.index(value), [order.index(each) for each in seen if each in order]
    lower, higher = order[here - 1 : here], order[here + 1 : here + 2]
    return [*(lower if min(places) == here else ()), *(higher if max(places) == here else ())]


class _Stand(NamedTuple):
    """How the search stands: the rows tried, and the best of them."""

    rows: Sequence[int]
    best: int


def _stand(among: Candidates, belief: Belief, seen: Sequence[Point]) -> _Stand | None:
    rows = _rows(among, seen)
    if not _flags(among) or not rows:
        return None
    return _Stand(rows, rows[int(np.argmin((belief.mean + belief.sd)[rows]))])


def _flags(among: Candidates) -> list[str]:
    return [flag for flag in KINDS if flag in among.space.names]


def _kinds(among: Candidates) -> list[tuple[object, ...]]:
    """Return every candidate's split and precision."""
    flags = _flags(among)
    return [tuple(point[flag] for flag in flags) for point in among.points]


def _rows(among: Candidates, seen: Sequence[Point]) -> list[int]:
    return [row for point in seen if (row := among.row_of.get(point_key(point))) is not None]


def _other_precisions(among: Candidates, row: int) -> list[int]:
    """Return the candidates that differ from one in nothing but the precision."""
    choices = next((d.choices for d in among.space.dimensions if d.flag == _PRECISION), ())
    others = [point_key({**among.points[row], _PRECISION: value}) for value in dict.fromkeys((*choices, None))]
    return sorted({found for key in others if (found := among.row_of.get(key)) is not None} - {row})


def _unseen(among: Candidates, open_rows: Mask, stand: _Stand, rows: Sequence[int], *, most: int) -> list[int]:
    """Return those that may be started and of which no copy (`most` flags apart) was tried."""
    able = [row for row in rows if open_rows[row]]
    return [row for row in able if not any(_is_copy(among, row, other, most=most) for other in stand.rows)]


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
