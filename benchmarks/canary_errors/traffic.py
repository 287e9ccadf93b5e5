"""Requests of many simulated rollouts at once: misses in runs (a Gilbert chain, or a twin's queue), arm by arm.

Rates are constant: what differs from one rollout to the next is which requests miss. Only what the rules look at is
kept: counts at the moments of `TIMES`. The collapse under load follows the drill on twins in
`tests/integration/rollouts`: a replica given nearly its later load grows a queue, which soon ends our sending.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.canary_errors.bounds import Array, Bools, Many
from benchmarks.canary_errors.queueing import queue_hits
from benchmarks.canary_errors.sessions import HEAVY_SHARE, Counted, heavy_user, in_order, sessions_that_miss

BASE = 0.03  # stable's share of requests that miss a limit
STEP_S = 600.0
WEIGHTS = (5, 20, 100)
SHADOW = 0  # the weight of ours before them
TWIN = 0.0  # as a burst: misses follow each other as in a twin's queue
SESSIONS = -1.0  # as a burst: all requests of some sessions miss
HEAVY = -2.0  # as a burst: those of one user do, wherever that is
COLLAPSES_AT = 0.9  # of the later load of a replica
COLLAPSED = 0.95  # misses from then on
GROWS_S = 10.0  # until a growing queue ends our sending
RESTS_S = (20.0, 40.0)  # after the first and the second time
PATIENCE_S = 20.0  # clients leave a hanging request after so long; we wait for ours
HANGS_S = 2.5  # a request that waited so long hangs
_SIGMA = 0.6  # of the logarithm of latencies, to turn a longer tail into misses
_LOOK_AGAIN = 1.05  # looks are so much further apart each time: every half second would say the same, slowly


def _times() -> Array:
    looks, at_s = [], 1.0
    while at_s < STEP_S:
        looks.append(at_s)
        at_s = max(at_s + 0.5, at_s * _LOOK_AGAIN)
    return np.unique([*looks, *np.arange(60.0, STEP_S + 1, 60.0)])


TIMES = _times()
MINUTES = np.searchsorted(TIMES, np.arange(60.0, STEP_S + 1, 60.0))


_Ints = npt.NDArray[np.int64]


class Canary(NamedTuple):
    """What is wrong with it: more misses, a longer tail (factor on P99), requests that hang, or a load too much."""

    name: str
    more: float = 0.0
    tail: float = 1.0
    hangs: float = 0.0
    collapses: bool = False

    @property
    def miss_ratio(self) -> float:
        tail = BASE if self.tail == 1 else _normal_tail(_normal_limit(BASE) - math.log(self.tail) / _SIGMA)
        return tail + self.more + self.hangs


CANARIES = (
    Canary("equal"),
    Canary("misses +5", more=0.05),
    Canary("misses +10", more=0.10),
    Canary("P99 +30 %", tail=1.3),
    Canary("hangs 2 %", hangs=0.02),
    Canary("collapse", collapses=True),
)


class Cell(NamedTuple):
    canary: Canary
    rps: float  # of all users; also the target rate
    burst: float  # mean run of misses; 1: independent; TWIN: as in its queue; SESSIONS, HEAVY: as users have them
    replicas: int
    clusters: bool = True  # users' sessions are counted as clusters; False: request by request, as they come

    def load_share(self, weight: int) -> float:
        """Return what users bring to a canary replica, of its later load."""
        return weight / 100 * self.replicas / self.canary_replicas(weight)

    def canary_replicas(self, weight: int) -> int:
        return max(1, math.ceil(self.replicas * weight / 100))


class BySession(NamedTuple):
    """Users' requests counted session by session."""

    users: Many
    stable: Many | None
    before: Many


class Step(NamedTuple):
    """One step of many rollouts. `users_alone`: the canary's users where nothing is replayed to it."""

    weight: int
    users: Many
    users_alone: Many
    replayed: Many | None
    stable: Many | None
    before: Many  # stable's requests in the ten minutes before, of which only the end counts
    collapses: Array  # how often the canary did not keep up so far, at each moment
    hanging: Array  # users' requests in flight that hang, at each moment
    replays_hanging: Array
    by_session: BySession | None = None  # None: as they come


def of_rows(step: Step, rows: Bools) -> Step:
    """Return the step of some of the rollouts."""

    def some(part: Many) -> Many:
        return Many(*(field[rows] if len(field) == len(rows) else field for field in part))

    return step._replace(
        users=some(step.users),
        users_alone=some(step.users_alone),
        replayed=some(step.replayed) if step.replayed else None,
        stable=some(step.stable) if step.stable else None,
        before=some(step.before),
        by_session=None if step.by_session is None else _some_by_session(step.by_session, some),
    )


def _some_by_session(parts: BySession, some: Callable[[Many], Many]) -> BySession:
    stable = None if parts.stable is None else some(parts.stable)
    return BySession(some(parts.users), stable, some(parts.before))


def draw(cell: Cell, weight: int, rollouts: int, rng: np.random.Generator) -> Step:
    """Draw what happens at a step if rollouts get that far."""
    ratio, users_rps = cell.canary.miss_ratio, cell.rps * weight / 100
    load_rps = cell.rps / cell.replicas * cell.canary_replicas(weight)
    replayed_rps = load_rps - users_rps if weight < 100 else 0.0
    here = rng.random(rollouts) < weight / 100 if cell.burst == HEAVY else np.zeros(rollouts, bool)
    mine = _users(cell, users_rps, ratio, here, rng)
    users = mine.each
    falls = cell.canary.collapses and weight < 100 and cell.load_share(weight) < COLLAPSES_AT
    if cell.canary.collapses and not falls:
        users = users_alone = _counted(cell, users_rps, COLLAPSED, rollouts, rng)
    else:
        users_alone = users
    ours = cell._replace(burst=1.0) if cell.burst in (SESSIONS, HEAVY) else cell  # what we send has no session
    replayed = _counted(ours, replayed_rps, ratio, rollouts, rng) if replayed_rps > 0 else None
    if falls:
        users, replayed = _falling(users, users_rps), _sent(load_rps, rollouts)
    stable = _users(cell, cell.rps - users_rps, BASE, ~here, rng) if weight < 100 else None
    before = _users(cell, cell.rps, BASE, np.ones(rollouts, bool), rng)
    return Step(
        by_session=_by_session(mine, stable, before) if cell.clusters and cell.burst in (SESSIONS, HEAVY) else None,
        weight=weight,
        users=users,
        users_alone=users_alone,
        replayed=replayed,
        stable=stable.each if stable else None,
        before=_last(before.each),
        collapses=_collapses() if falls else np.zeros_like(TIMES),
        hanging=np.floor(cell.canary.hangs * users_rps * np.minimum(TIMES, PATIENCE_S)),
        replays_hanging=np.floor(cell.canary.hangs * replayed_rps * np.maximum(0.0, TIMES - HANGS_S)),
    )


def _collapses() -> Array:
    ends = np.cumsum([GROWS_S, RESTS_S[0] + GROWS_S, RESTS_S[1] + GROWS_S])
    return np.asarray((TIMES[:, None] >= ends[None, :]).sum(axis=1), dtype=float)


def _falling(users: Many, rps: float) -> Many:
    """Users stand in the queue that our sending grows: those of its second half miss, three times."""
    starts = np.cumsum([GROWS_S / 2, RESTS_S[0] + GROWS_S, RESTS_S[1] + GROWS_S])
    late_s = np.clip(TIMES[:, None] - starts[None, :], 0, GROWS_S / 2).sum(axis=1)
    late = np.floor(rps * late_s)[None, :]
    hits = np.minimum(users.n, users.hits + late)
    most = np.minimum(hits, users.n - hits + 1)
    return Many(users.n, hits, np.minimum(users.runs + (late > 0), most), users.open * 0)


def _sent(rps: float, rollouts: int) -> Many:
    """What was sent until a queue had grown, three times; its second half is late."""
    starts = np.cumsum([0.0, GROWS_S + RESTS_S[0], GROWS_S + RESTS_S[1]])
    sent = np.floor(rps * np.clip(TIMES[:, None] - starts[None, :], 0, GROWS_S).sum(axis=1))[None, :]
    late = np.floor(rps * np.clip(TIMES[:, None] - starts[None, :] - GROWS_S / 2, 0, GROWS_S / 2).sum(axis=1))
    hits = np.minimum(sent, np.broadcast_to(late, (rollouts, len(TIMES))))
    return Many(sent, hits, np.minimum(hits, 3.0 * (hits > 0)), hits * 0)


def _last(counted: Many) -> Many:
    return Many(*(np.broadcast_to(part, counted.hits.shape)[:, -1:] for part in counted))


def _users(cell: Cell, rate_rps: float, ratio: float, here: Bools, rng: np.random.Generator) -> Counted:
    """Draw users' requests; `here`: the heavy user's are among them."""
    ns = np.floor(rate_rps * TIMES).astype(np.int64)
    if cell.burst == SESSIONS:
        return sessions_that_miss(ns, ratio, len(here), rng)
    if cell.burst == HEAVY and rate_rps > 0:
        return heavy_user(ns, ratio, HEAVY_SHARE * cell.rps / rate_rps, here, rng)
    plain = _counted(cell, rate_rps, ratio, len(here), rng)
    return Counted(plain, plain)


def _by_session(mine: Counted, stable: Counted | None, before: Counted) -> BySession:
    return BySession(mine.by_session, stable.by_session if stable else None, _last(before.by_session))


def _counted(cell: Cell, rate_rps: float, ratio: float, rollouts: int, rng: np.random.Generator) -> Many:
    ns = np.floor(rate_rps * TIMES).astype(np.int64)
    if cell.burst == TWIN:
        return in_order(queue_hits(ratio, int(ns[-1]), rollouts, rng), ns)
    return chain(ns, ratio, cell.burst, rollouts, rng)


def chain(ns: npt.NDArray[np.int64], ratio: float, burst: float, rollouts: int, rng: np.random.Generator) -> Many:
    """Draw stationary chains: runs of hits and gaps between them, both geometric; counts after `ns` requests each."""
    shortest = ratio / (1 - ratio)  # mean run of a chain whose gaps are one request long
    end = 1 / max(burst, shortest) if burst > 1 else 1 - ratio
    start = end * ratio / (1 - ratio)
    cycles = ns[-1] / (1 / end + 1 / start)
    number = int(cycles + 8 * math.sqrt(2 * cycles + 1)) + 10
    runs, gaps = (rng.geometric(p, (rollouts, number)) for p in (end, start))
    gaps[rng.random(rollouts) < ratio, 0] = 0  # begins within a run
    before = np.cumsum(runs, axis=1) - runs
    starts = np.cumsum(gaps, axis=1) + before
    return _at(ns, starts, runs, before)


def _at(ns: _Ints, starts: _Ints, runs: _Ints, before: _Ints) -> Many:
    rollouts, number = starts.shape
    apart = int(starts.max()) + int(ns[-1]) + 2
    rows = np.arange(rollouts)[:, None]
    begun = np.searchsorted((starts + rows * apart).ravel(), (ns[None, :] + rows * apart).ravel())
    begun = begun.reshape(rollouts, -1) - rows * number
    last = np.maximum(begun - 1, 0)
    over = np.take_along_axis(starts + runs, last, axis=1) - ns[None, :]
    open_ = (begun > 0) & (over >= 0)
    hits = np.take_along_axis(before + runs, last, axis=1) - np.maximum(over, 0)
    hits = np.where(begun > 0, hits, 0)
    return Many(ns[None, :].astype(float), hits.astype(float), begun.astype(float), open_.astype(float))


def _normal_tail(z: float) -> float:
    return 0.5 * math.erfc(z / math.sqrt(2))


def _normal_limit(tail: float) -> float:
    low, high = 0.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _normal_tail(middle) > tail else (low, middle)
    return low
