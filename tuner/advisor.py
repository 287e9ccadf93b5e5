"""Which candidate to start next, or why no more: expected improvement in cost per expected second of trial. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from tuner.space import Point, Space
from tuner.surrogate import Array, Belief, Measured, believe, column_groups, encode

Mask = NDArray[np.bool_]

MEASUREMENT_SD = 0.03
"""Standard deviation of a measured log capacity: the ladder stops at about 5 % of width."""
_KINDS = ("tensor-parallel-size", "quantization")
"""What the twin has a profile of its own for: how wrong one is says little of how wrong the next one is."""
_NEAR = 0.2  # log cost: a trial this close to the best of its kind speaks for it
_WITHIN_REACH = 0.3  # log cost: how wrong a twin may be about one kind against another

_BOUND_SD = 0.06  # a candidate dropped at the rate to beat is certainly worse, by how much is not known
_BOUND_MARGIN = 0.1
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
    per GPU (NaN unknown); `trial_s` what a
    trial is expected to cost: GPU-seconds, or anything in proportion to them. `row_of` finds a point's row by its key.
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
        measured = _censored(among, tried, measured)
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
    return _most_improving(among, belief, open_rows, best, worthwhile)


def point_key(point: Point) -> tuple[tuple[str, object], ...]:
    """Return a hashable name of a point. True and 1 differ."""
    return tuple((flag, (type(value).__name__, value)) for flag, value in point.items())


def measurements(tried: Sequence[Tried], index: Mapping[tuple[tuple[str, object], ...], int]) -> Measured:
    """Return the trials as the surrogate wants them; a dropped candidate counts as a little above its bound."""
    rows, costs, noises = [], [], []
    for trial in tried:
        row = index.get(point_key(trial.point))
        if row is None or (trial.log_cost is None and trial.at_least is None):
            continue
        rows.append(row)
        costs.append(trial.log_cost if trial.log_cost is not None else (trial.at_least or 0.0) + _BOUND_MARGIN)
        noises.append(MEASUREMENT_SD if trial.log_cost is not None else _BOUND_SD)
    return Measured(rows, costs, noises)


def _with_earlier(
    measured: Measured, earlier: Sequence[Tried], index: Mapping[tuple[tuple[str, object], ...], int]
) -> Measured:
    """Add what an earlier study measured, with wide noise, where nothing was measured here."""
    costs = {index.get(point_key(trial.point)): trial.log_cost for trial in earlier}
    known = {row: cost for row, cost in costs.items() if row is not None and cost is not None}
    new = [row for row in known if row not in measured.rows]
    return Measured(
        [*measured.rows, *new],
        [*measured.log_costs, *(known[row] for row in new)],
        [*measured.noise_sds, *([_EARLIER_SD] * len(new))],
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


def _censored(among: Candidates, tried: Sequence[Tried], measured: Measured) -> Measured:
    """Take a dropped candidate at what it is expected to cost given that it costs more than its bound (Tobit).

    Without a forecast a bound is all there is to learn from, and most candidates are worse than theirs by far.
    """
    exact = measurements([trial for trial in tried if trial.log_cost is not None], among.row_of)
    if not exact.rows:
        return measured
    before = believe(among.features, column_groups(among.space), None, exact)
    known = dict(zip(exact.rows, exact.log_costs, strict=True))
    costs, noises = [], []
    for row, cost, noise in zip(*measured, strict=True):
        mean, sd = float(before.mean[row]), float(before.sd[row])
        away = (cost - _BOUND_MARGIN - mean) / sd
        excess = math.exp(float(norm.logpdf(away) - norm.logsf(away)))
        costs.append(cost if row in known else max(cost, mean + sd * excess))
        spread = sd * math.sqrt(max(0.0, 1 + away * excess - excess**2))
        noises.append(noise if row in known else max(noise, spread))
    return Measured(measured.rows, costs, noises)


def _lying(
    measured: Measured, belief: Belief, pending: Sequence[Point], index: Mapping[tuple[tuple[str, object], ...], int]
) -> Measured:
    """Take what runs elsewhere as measured at its expectation (constant liar), so that workers spread out."""
    rows = [row for point in pending if (row := index.get(point_key(point))) is not None]
    return Measured(
        [*measured.rows, *rows],
        [*measured.log_costs, *belief.mean[rows]],
        [*measured.noise_sds, *[MEASUREMENT_SD] * len(rows)],
    )


def _safest(among: Candidates, belief: Belief, open_rows: Mask) -> Advice:
    """Nothing has a capacity yet: try what is expected to be cheapest, most room first when nothing is expected."""
    wish = belief.mean if among.forecast is not None else -np.nan_to_num(among.room_gib)
    row = int(np.argmin(np.where(open_rows, wish, np.inf)))
    reason = "nothing met the limits yet; this has the best chance"
    return Advice(row, reason, expected_log_cost=float(belief.mean[row]), best_row=row)


def _unseen_kind(among: Candidates, belief: Belief, open_rows: Mask, best: float, seen: Sequence[Point]) -> int | None:
    """Return the most promising row of a split and precision that nothing near its best was tried with, or None.

    Communication between GPUs and the kernels of a precision are what a twin errs in most, and no trial without them
    tells how much.
    """
    flags = [flag for flag in _KINDS if flag in among.space.names]
    if not flags:
        return None
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


def _most_improving(
    among: Candidates,
    belief: Belief,
    open_rows: Mask,
    best: float,
    worthwhile: float,
) -> Advice:
    gain = np.where(open_rows, belief.expected_improvement(best), -np.inf)
    largest = float(gain.max())
    if largest < worthwhile:
        reason = f"expected improvement {largest:.1%} is below the measurement noise ({worthwhile:.1%})"
        return Advice(None, reason, largest, best_row=int(np.argmax(gain)))
    row = int(np.argmax(gain / among.trial_s))
    reason = f"expected improvement {gain[row]:.1%}"
    return Advice(row, reason, float(gain[row]), float(belief.mean[row]), best_row=row)
