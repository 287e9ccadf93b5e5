"""Misses that are their users': of users who go on side by side, or of one who asks for much.

Counted twice: request by request, as they come, and as the judge does for users, session by session
(`domain.rollouts.clusters`: side by side, the first ten of each).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.canary_errors.bounds import Many
from controlplane.domain.rollouts.clusters import MOST_OF_A_SESSION as MOST

SIDE, LENGTH = 5, 40
"""So many sessions take turns, request by request, until each has had so many; then others come."""
HEAVY_SHARE = 0.02
"""Of all requests: those of one user, all of which miss. More, and gateways would split its session up."""
_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]


class Counted(NamedTuple):
    each: Many
    by_session: Many


def sessions_that_miss(ns: _Ints, ratio: float, rollouts: int, rng: np.random.Generator) -> Counted:
    """Draw sessions that miss all along or never; counts after `ns` requests each."""
    bad = rng.random((rollouts, SIDE * (int(ns[-1]) // (SIDE * LENGTH) + 1))) < ratio
    number = np.arange(max(1, int(ns[-1])))
    hit = bad[:, SIDE * (number // (SIDE * LENGTH)) + number % SIDE]
    return Counted(in_order(hit, ns), _side_by_side(bad, ns))


def heavy_user(ns: _Ints, ratio: float, share: float, here: _Bools, rng: np.random.Generator) -> Counted:
    """Draw requests of a session each, but for a share: one user's, in those rollouts in which it is `here`."""
    every = max(1, round(1 / share))
    hit = rng.random((len(here), max(1, int(ns[-1])))) < ratio
    is_heavy = np.arange(hit.shape[1]) % every == 0
    each = in_order(hit | (here[:, None] & is_heavy), ns)
    heavy = -(-ns // every)
    others = in_order(hit[:, ~is_heavy], ns - heavy)
    counted, there = np.minimum(MOST, heavy), heavy > 0
    goes_on = np.concatenate([hit[:, ~is_heavy], np.zeros((len(here), 1), bool)], axis=1)[:, :1] & (ns - heavy > 0)
    only_it = there & (ns - heavy == 0)
    by_session = Many(
        others.n + counted, others.hits + counted, others.runs + there - goes_on, np.where(only_it, 1.0, others.open)
    )
    return Counted(each, Many(*(np.where(here[:, None], a, b) for a, b in zip(by_session, each, strict=True))))


def in_order(hit: _Bools, ns: _Ints) -> Many:
    """Return counts of single chains, request after request."""
    begins = hit.copy()
    begins[:, 1:] &= ~hit[:, :-1]
    at = [_sums(part)[:, ns] for part in (hit, begins)]
    padded = np.concatenate([np.zeros((len(hit), 1), bool), hit], axis=1)
    return Many(ns[None, :].astype(float), at[0], at[1], padded[:, ns].astype(float))


def _side_by_side(bad: _Bools, ns: _Ints) -> Many:
    """Of the sessions that are there some have had a request more than the others of their round."""
    begins = bad.copy()
    begins[:, 1:] &= ~bad[:, :-1]
    misses, runs = _sums(bad), _sums(begins)
    over, rest = SIDE * (ns // (SIDE * LENGTH)), ns % (SIDE * LENGTH)
    ahead, turns = rest % SIDE, rest // SIDE
    present = np.where(turns > 0, SIDE, ahead)
    more, fewer = np.minimum(turns + 1, MOST), np.minimum(turns, MOST)
    of_ahead = misses[:, over + ahead] - misses[:, over]
    of_others = misses[:, over + present] - misses[:, over + ahead]
    n = MOST * over + more * ahead + fewer * (present - ahead)
    hits = MOST * misses[:, over] + more * of_ahead + fewer * of_others
    last = np.where(over + present > 0, bad[:, np.maximum(0, over + present - 1)], False)
    return Many(n[None, :].astype(float), hits, runs[:, over + present], last.astype(float))


def _sums(part: _Bools) -> npt.NDArray[np.float64]:
    return np.concatenate([np.zeros((len(part), 1)), np.cumsum(part, axis=1)], axis=1)
