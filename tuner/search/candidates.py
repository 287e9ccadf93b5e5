"""What may be started, what is known of it, what trials said, and what the search advises: the values it thinks in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tuner.search.bends import Bend, bends
from tuner.search.surrogate import Array, encode
from tuner.search.trial_time import TrialTime, trial_time
from tuner.space.space import Point, Space

Mask = NDArray[np.bool_]

KINDS = ("tensor-parallel-size", "quantization")
"""What the twin has a profile of its own for: how wrong one is says little of how wrong the next one is."""

MEASUREMENT_SD = 0.03
"""Standard deviation of a measured log capacity: the ladder stops at about 5 % of width."""


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


class RivalOutlook(NamedTuple):
    """What another twin expects that explains the baseline nearly as well; `odds` are those beside the likeliest."""

    outlook: Outlook
    odds: float


def _log_cost(value: float, _: Point) -> float | None:
    """By itself a value is GPUs per request per second."""
    return math.log(value) if value > 0 else None


class Candidates(NamedTuple):
    """Everything that may be started. All sequences have one entry per point.

    `outlook` is what the twin expects, None without a twin; `room_gib` what the memory model leaves for the KV cache
    per GPU (NaN unknown); `trial_time` what a trial's GPU-seconds depend on.
    `row_of` finds a point's row by its key.
    """

    space: Space
    points: Sequence[Point]
    features: Array
    outlook: Outlook | None
    room_gib: Array
    trial_time: TrialTime
    row_of: Mapping[tuple[tuple[str, object], ...], int]
    log_cost_of: Callable[[float, Point], float | None] = _log_cost
    """The log cost that a value of the Optuna study stands for, None when for none."""
    bends: Sequence[Bend] = ()
    """How the forecast may be moved along its flags."""
    rivals: Sequence[RivalOutlook] = ()
    """What else may be expected beside `outlook`."""
    earlier: Sequence[Tried] = ()
    """What an earlier study measured: evidence with wide noise, never counted as tried here."""

    @property
    def forecast(self) -> Array | None:
        """The twin's log cost per point."""
        return None if self.outlook is None else self.outlook.log_cost

    @property
    def bent(self) -> Sequence[Array]:
        """The twin's log cost per point, were its bends elsewhere."""
        return () if self.outlook is None else [bend.of(self.outlook.log_cost) for bend in self.bends]

    @property
    def forecasts(self) -> Sequence[tuple[Array, float]]:
        """What each twin expects, the likeliest first, with its share of the likelihood; none without a twin."""
        if self.outlook is None:
            return ()
        found = [(self.outlook.log_cost, 1.0), *((each.outlook.log_cost, each.odds) for each in self.rivals)]
        whole = sum(odds for _, odds in found)
        return [(forecast, odds / whole) for forecast, odds in found]

    def look_at(self, row: int) -> bool:
        """Let every twin simulate a row that was only interpolated; say whether that changed anything."""
        outlooks = [] if self.outlook is None else [self.outlook, *(each.outlook for each in self.rivals)]
        return any([outlook.look_at(row) for outlook in outlooks])

    def led_by(self, place: int) -> Candidates:
        """Return the same with nothing but what the twin at a place of `forecasts` expects; 0 leads already."""
        return self if place == 0 else self._replace(outlook=self.rivals[place - 1].outlook, rivals=())


class Tried(NamedTuple):
    """One finished trial: its log cost, or `at_least` when it was dropped, or neither when it could not start.

    `start_s` is what its engine's start took, `levels_s` its levels together, both in real seconds.
    """

    point: Point
    log_cost: float | None = None
    at_least: float | None = None
    ran_out_of_memory: bool = False
    start_s: float | None = None
    levels_s: float | None = None
    host: str | None = None

    @property
    def ran(self) -> bool:
        """True when its engine started, so that something was measured."""
        return self.log_cost is not None or self.at_least is not None


class Advice(NamedTuple):
    """The row to start next and what is expected of it; `row` None means stop, `reason` says why."""

    row: int | None
    reason: str
    expected_improvement: float = 0.0
    expected_log_cost: float | None = None
    best_row: int | None = None
    """The row with the most to gain, also where that is too little to start it."""


def candidates(
    space: Space, points: Sequence[Point], *, outlook: Outlook | None, room_gib: Array | None, level_s: float = 60.0
) -> Candidates:
    """Return the candidates. `level_s` is the longest that one level of a trial may take, in real seconds."""
    count = len(points)
    return Candidates(
        space=space,
        points=points,
        features=encode(space, points),
        outlook=outlook,
        room_gib=np.full(count, math.nan) if room_gib is None else room_gib,
        trial_time=trial_time([space.config(point) for point in points], level_s=level_s),
        row_of={point_key(point): row for row, point in enumerate(points)},
        bends=() if outlook is None else bends(space, points, without=KINDS),
    )


def point_key(point: Point) -> tuple[tuple[str, object], ...]:
    """Return a hashable name of a point. True and 1 differ."""
    return tuple((flag, (type(value).__name__, value)) for flag, value in point.items())
