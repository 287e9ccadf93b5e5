"""A fleet tick by tick: what is ready serves, what is wanted starts, what waits is a queue."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from benchmarks.scaling.replica import STARTUP_S, Replica
from benchmarks.scaling.traffic import TICK_S, Floats

DRAIN_S = 30.0  # a replica that goes finishes what it has begun
_LIMIT_S = 0.5  # of the first token: a queue that takes longer is a miss for all that come

_ALLOWED = 0.01 + 1e-9  # of P99


class Seen(NamedTuple):
    """What a policy may look at, at the end of a tick: all replicas together."""

    tick: int
    arrived: float
    in_flight: float
    waiting: float
    ready: int
    wanted: int
    starting_s: tuple[float, ...] = ()  # how long each has been on its way


Policy = Callable[[Seen], int]
"""Returns the replicas wanted from now on."""


class Week(NamedTuple):
    """What a policy came to, the scored days only."""

    attainment: float
    gpu_hours: float
    actions: int
    most_replicas: int


@dataclass
class _Fleet:
    replica: Replica
    ready: int
    starting: list[float] = field(default_factory=list)  # seconds left, the first started first
    draining: list[float] = field(default_factory=list)
    queue: float = 0.0

    @property
    def wanted(self) -> int:
        return self.ready + len(self.starting)

    def scale(self, replicas: int) -> None:
        """Start what is missing; of what is too much those go first that are not ready."""
        self.starting += [STARTUP_S] * (replicas - self.wanted)
        surplus = self.wanted - replicas
        if surplus > 0 and self.starting:
            keep = max(0, len(self.starting) - surplus)
            surplus -= len(self.starting) - keep
            self.starting = self.starting[:keep]
        self.draining += [DRAIN_S] * surplus
        self.ready -= surplus

    def tick(self, arrived: float) -> tuple[float, float, float]:
        """Serve one tick; return requests that missed, requests in the engines or waiting, and those waiting."""
        self.starting = [left - TICK_S for left in self.starting]
        self.ready += sum(left <= 0 for left in self.starting)
        self.starting = [left for left in self.starting if left > 0]
        self.draining = [left - TICK_S for left in self.draining if left > TICK_S]
        most = self.replica.most_rps * self.ready * TICK_S
        served = min(arrived + self.queue, most)
        late = self.queue / most * TICK_S > _LIMIT_S
        self.queue += arrived - served
        rate_rps = served / TICK_S / self.ready
        missed = arrived if late else arrived * self.replica.missed(max(rate_rps, arrived / TICK_S / self.ready))
        crowd, waiting = (self._at(curve, rate_rps) for curve in (self.replica.crowd, self.replica.waiting))
        return missed, crowd + self.queue, waiting + self.queue

    def _at(self, curve: Floats, rate_rps: float) -> float:
        """Return a number of one replica at a rate, of all that are ready: linear between the curve's points."""
        rates = self.replica.rates_rps
        below = min(len(rates) - 2, max(0, int(rates.searchsorted(rate_rps)) - 1))
        share = (rate_rps - rates[below]) / (rates[below + 1] - rates[below])
        return self.ready * float(curve[below] + min(1.0, share) * (curve[below + 1] - curve[below]))


class Tick(NamedTuple):
    """What came, what of it missed, and what was paid for in one tick."""

    arrived: float
    missed: float
    wanted: int
    paid: int
    acts: bool


def run(policy: Policy, arrived: Floats, replica: Replica, *, start: int, score_from: int) -> Week:
    """Let a policy scale a fleet under these arrivals; ticks before `score_from` only let it learn."""
    scored = list(islice(ticks(policy, arrived, replica, start=start), score_from, None))
    requests, missed = (math.fsum(each) for each in ((t.arrived for t in scored), (t.missed for t in scored)))
    gpu_s = TICK_S * sum(each.paid for each in scored)
    actions, most = sum(each.acts for each in scored), max(each.wanted for each in scored)
    return Week(1 - missed / requests, gpu_s / 3600, actions, most)


def missed_for_s(policy: Policy, arrived: Floats, replica: Replica, *, start: int, step_at: int) -> float:
    """Return how long after tick `step_at` more than 1 % of a tick's requests missed for the last time."""
    after = list(islice(ticks(policy, arrived, replica, start=start), step_at, None))
    last = max((index + 1 for index, each in enumerate(after) if each.missed > _ALLOWED * each.arrived), default=0)
    return float(last * TICK_S)


def ticks(policy: Policy, arrived: Floats, replica: Replica, *, start: int) -> Iterator[Tick]:
    """Let a policy scale a fleet, tick after tick."""
    fleet = _Fleet(replica, ready=start)
    for tick, count in enumerate(map(float, arrived)):
        late, crowd, waiting = fleet.tick(count)
        wanted, paid = fleet.wanted, fleet.wanted + len(fleet.draining)
        since = tuple(STARTUP_S - left for left in fleet.starting)
        replicas = max(1, policy(Seen(tick, count, crowd, waiting, fleet.ready, wanted, since)))
        yield Tick(count, late, wanted, paid, replicas != wanted)
        fleet.scale(max(replicas, 1 if fleet.ready else fleet.wanted))
        fleet = _at_least_one(fleet)


def _at_least_one(fleet: _Fleet) -> _Fleet:
    """Nobody lets the last ready replica go while another one only starts."""
    if fleet.ready < 1:
        fleet.ready, fleet.draining = 1, fleet.draining[:-1]
    return fleet


def needed(rate_rps: float, capacity_rps: float, headroom: float) -> int:
    """Return the replicas that carry a rate with headroom."""
    return max(1, math.ceil(rate_rps / (capacity_rps * (1 - headroom)) - 1e-9))
