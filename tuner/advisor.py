"""Which candidate to start next, or why no more: expected improvement in cost per expected second of trial. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tuner.space import Point, Space
from tuner.surrogate import Array, Belief, Measured, believe, column_groups, encode

Mask = NDArray[np.bool_]

MEASUREMENT_SD = 0.03
"""Standard deviation of a measured log capacity: the ladder stops at about 5 % of width."""
_KINDS = ("tensor-parallel-size", "quantization")
"""What the twin has a profile of its own for: how wrong one is says little of how wrong the next one is."""
_NEAR = 0.2  # log cost: a trial this close to the best of its kind speaks for it
_WITHIN_REACH = 0.3  # log cost: how wrong a twin may be about one kind against another
_BOUND_MARGIN, _BOUND_SD = 0.1, 0.06  # without a twin: what a dropped candidate counts as, above the rate it missed
_BROKEN_MARGIN = 0.7  # without a twin: what could not run counts as this much worse than the worst that could
_BROKEN_SD = 0.2
_EARLIER_SD = 0.25  # log cost: how far an earlier study's capacity may be off under this one's traffic and version


class Outlook:
    """The twin's log cost per point: simulated for some, interpolated for the rest until somebody looks closer."""

    def __init__(self, log_cost: Array, simulated: Mask, simulate: Callable[[int], float | None]) -> None:
        self.log_cost = log_cost
        self._simulated = simulated
        self._simulate = simulate

    def look_at(self, row: int) -> bool:
        """Simulate a row that was only interpolated; say whether that changed anything."""
        if self._simulated[row]:
            return False
        self._simulated[row] = True
        found = self._simulate(row)
        if found is None:
            return False
        self.log_cost[row] = found
        return True


class Candidates(NamedTuple):
    """Everything that may be started. All sequences have one entry per point.

    `outlook` is what the twin expects, None without a twin; `room_gib` what the memory model leaves for the KV cache
    per GPU (NaN unknown); `trial_s` what a trial is expected to cost: GPU-seconds, or anything in proportion to them.
    `row_of` finds a point's row by its key.
    """

    space: Space
    points: Sequence[Point]
    features: Array
    outlook: Outlook | None
    room_gib: Array
    trial_s: Array
    row_of: Mapping[tuple[tuple[str, object], ...], int]
    earlier: Sequence[Tried] = ()
    """What an earlier study measured: evidence with wide noise, never counted as tried here."""

    @property
    def forecast(self) -> Array | None:
        """The twin's log cost per point."""
        return None if self.outlook is None else self.outlook.log_cost


class Tried(NamedTuple):
    """One finished trial: its log cost, or `at_least` when it was dropped, or neither when it could not start."""

    point: Point
    log_cost: float | None = None
    at_least: float | None = None
    ran_out_of_memory: bool = False


class Advice(NamedTuple):
    """The row to start next and what is expected of it; `row` None means stop, `reason` says why."""

    row: int | None
    reason: str
    expected_improvement: float = 0.0
    expected_log_cost: float | None = None
    best_row: int | None = None
    """The row with the most to gain, also where that is too little to start it."""


def candidates(
    space: Space, points: Sequence[Point], *, outlook: Outlook | None, room_gib: Array | None, trial_s: Array | None
) -> Candidates:
    """Return the candidates; what is unknown may be left out."""
    count = len(points)
    return Candidates(
        space=space,
        points=points,
        features=encode(space, points),
        outlook=outlook,
        room_gib=np.full(count, math.nan) if room_gib is None else room_gib,
        trial_s=np.ones(count) if trial_s is None else trial_s,
        row_of={point_key(point): row for row, point in enumerate(points)},
    )


def advise(among: Candidates, tried: Sequence[Tried], *, pending: Sequence[Point] = (), worthwhile: float) -> Advice:
    """Return the next candidate.

    `pending` runs elsewhere and is not started twice. `worthwhile` is the expected improvement (share of the cost)
    below which another start is not worth it.
    """
    index = among.row_of
    open_rows = _open_rows(among, tried, pending, index)
    if not open_rows.any():
        return Advice(None, "every feasible candidate was tried")
    measured = measurements(tried, index)
    if among.forecast is None:
        measured = _without_twin(measured, tried, index)
    here = measured.rows
    measured = _with_earlier(measured, among.earlier, index)
    belief = believe(among.features, column_groups(among.space), among.forecast, measured)
    if pending:
        belief = believe(
            among.features, column_groups(among.space), among.forecast, _lying(measured, belief, pending, index)
        )
    best = min((t.log_cost for t in tried if t.log_cost is not None), default=None)
    if best is None:
        return _safest(among, belief, open_rows)
    unseen = _unseen_kind(among, belief, open_rows, best, [t.point for t in tried] + list(pending))
    if unseen is not None:
        reason = "nothing like it was measured, and the twin is wrong there in a way of its own"
        return Advice(unseen, reason, expected_log_cost=float(belief.mean[unseen]), best_row=unseen)
    advice = _most_improving(among, belief, open_rows, _believed_best(belief, here, best), worthwhile)
    if advice.row is None:
        advice = _last_look(among, belief, open_rows, best, [*(t.point for t in tried), *pending]) or advice
    return advice


def point_key(point: Point) -> tuple[tuple[str, object], ...]:
    """Return a hashable name of a point. True and 1 differ."""
    return tuple((flag, (type(value).__name__, value)) for flag, value in point.items())


def measurements(tried: Sequence[Tried], index: Mapping[tuple[tuple[str, object], ...], int]) -> Measured:
    """Return the trials as the surrogate wants them; of a dropped candidate only a floor is known."""
    placed = [(trial, row) for trial in tried if (row := index.get(point_key(trial.point))) is not None]
    costs = [(row, trial.log_cost) for trial, row in placed if trial.log_cost is not None]
    floors = [(row, t.at_least) for t, row in placed if t.log_cost is None and t.at_least is not None]
    return Measured([row for row, _ in costs], [cost for _, cost in costs], [MEASUREMENT_SD] * len(costs), floors)


def _without_twin(
    measured: Measured, tried: Sequence[Tried], index: Mapping[tuple[tuple[str, object], ...], int]
) -> Measured:
    """Count what could not run, and what was dropped, as if it had been measured to be dear.

    Nothing else keeps a search without a twin from the neighbours of a start that ran out of memory; and it is so
    unsure of how bad a dropped candidate is that its neighbours would be dropped one after the other.
    """
    broken = [t for t in tried if t.log_cost is None and t.at_least is None]
    rows = [row for t in broken if (row := index.get(point_key(t.point))) is not None]
    dropped = [floor + _BOUND_MARGIN for _, floor in measured.floors]
    cost = max([*measured.log_costs, *dropped], default=0.0) + _BROKEN_MARGIN
    return Measured(
        [*measured.all_rows, *rows],
        [*measured.log_costs, *dropped, *[cost] * len(rows)],
        [*measured.noise_sds, *[_BOUND_SD] * len(dropped), *[_BROKEN_SD] * len(rows)],
    )


def _with_earlier(
    measured: Measured, earlier: Sequence[Tried], index: Mapping[tuple[tuple[str, object], ...], int]
) -> Measured:
    """Add what an earlier study measured, with wide noise, where nothing was measured here."""
    costs = {index.get(point_key(trial.point)): trial.log_cost for trial in earlier}
    known = {row: cost for row, cost in costs.items() if row is not None and cost is not None}
    new = [row for row in known if row not in measured.all_rows]
    return Measured(
        [*measured.rows, *new],
        [*measured.log_costs, *(known[row] for row in new)],
        [*measured.noise_sds, *([_EARLIER_SD] * len(new))],
        measured.floors,
    )


def _open_rows(
    among: Candidates,
    tried: Sequence[Tried],
    pending: Sequence[Point],
    index: Mapping[tuple[tuple[str, object], ...], int],
) -> Mask:
    allowed = np.ones(len(among.points), dtype=bool)
    taken = [index.get(point_key(point)) for point in (*(t.point for t in tried), *pending)]
    allowed[[row for row in taken if row is not None]] = False
    burst = [index.get(point_key(t.point)) for t in tried if t.ran_out_of_memory]
    rooms = [among.room_gib[row] for row in burst if row is not None and not math.isnan(among.room_gib[row])]
    if rooms:
        # Whatever leaves as little room as a start that ran out of memory would run out of it too.
        allowed &= ~(among.room_gib <= max(rooms))
    return allowed


def _lying(
    measured: Measured, belief: Belief, pending: Sequence[Point], index: Mapping[tuple[tuple[str, object], ...], int]
) -> Measured:
    """Take what runs elsewhere as measured at its expectation (constant liar), so that workers spread out."""
    rows = [row for point in pending if (row := index.get(point_key(point))) is not None]
    return Measured(
        [*measured.rows, *rows],
        [*measured.log_costs, *belief.mean[rows]],
        [*measured.noise_sds, *[MEASUREMENT_SD] * len(rows)],
        measured.floors,
    )


def _safest(among: Candidates, belief: Belief, open_rows: Mask) -> Advice:
    """Nothing has a capacity yet: try what is expected to be cheapest, without a twin what is least like the misses."""
    wish = belief.mean if among.forecast is not None else belief.mean - belief.sd
    row = int(np.argmin(np.where(open_rows, wish, np.inf)))
    reason = "nothing met the limits yet; this has the best chance"
    return Advice(row, reason, expected_log_cost=float(belief.mean[row]), best_row=row)


def _unseen_kind(among: Candidates, belief: Belief, open_rows: Mask, best: float, seen: Sequence[Point]) -> int | None:
    """Return the most promising row of a split and precision that nothing near its best was tried with, or None.

    Communication between GPUs and the kernels of a precision are what a twin errs in most, and no trial without them
    tells how much.
    """
    flags = [flag for flag in _KINDS if flag in among.space.names]
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


def _speaks_for(among: Candidates, row: int, top: int) -> bool:
    """Say whether a trial of `row` tells how good `top` is; without a forecast any of its kind does."""
    return among.forecast is None or bool(among.forecast[row] <= among.forecast[top] + _NEAR)


def _believed_best(belief: Belief, seen: Sequence[int], lowest: float) -> float:
    """Return what improvement counts from: what is believed of the best row tried. The lowest measured is luck too."""
    rows = list(seen)
    return float(belief.mean[rows][np.argmin((belief.mean + belief.sd)[rows])]) if rows else lowest


def _most_improving(
    among: Candidates,
    belief: Belief,
    open_rows: Mask,
    best: float,
    worthwhile: float,
) -> Advice:
    gain = np.where(open_rows, belief.expected_improvement(best, MEASUREMENT_SD), -np.inf)
    largest = float(gain.max())
    if largest < worthwhile:
        reason = f"expected improvement {largest:.1%} is below the measurement noise ({worthwhile:.1%})"
        return Advice(None, reason, largest, best_row=int(np.argmax(gain)))
    row = int(np.argmax(gain / among.trial_s))
    reason = f"expected improvement {gain[row]:.1%}"
    return Advice(row, reason, float(gain[row]), float(belief.mean[row]), best_row=row)


def _last_look(among: Candidates, belief: Belief, open_rows: Mask, best: float, seen: Sequence[Point]) -> Advice | None:
    """Before the search ends: the best one tried, but on kernels that no trial ran; None when none is within reach.

    A limit makes capacity fall off a cliff, and a twin that is wrong by a fifth may see a whole family beyond it. Every
    trial lies where the twin sent it, so trials cannot tell; one start of such a family can, all else equal. It is
    within reach when any hypothesis says so, the one without the twin included.
    """
    flags = [flag for flag in _KINDS if flag in among.space.names]
    if among.forecast is None or not flags:
        return None
    ran = {tuple(point[flag] for flag in flags) for point in seen}
    unseen = np.array([tuple(point[flag] for flag in flags) not in ran for point in among.points])
    rows = [row for point in seen if (row := among.row_of.get(point_key(point))) is not None]
    if not rows or not (unseen & open_rows).any():
        return None
    incumbent = among.features[rows[int(np.argmin((belief.mean + belief.sd)[rows]))]]
    unlike = np.square(among.features - incumbent).sum(axis=1)
    row = int(np.argmin(np.where(unseen & open_rows, unlike, np.inf)))
    if belief.means[:, row].min() > best + _WITHIN_REACH:
        return None
    reason = "a last look at kernels that no trial ran"
    return Advice(row, reason, expected_log_cost=float(belief.mean[row]), best_row=row)
