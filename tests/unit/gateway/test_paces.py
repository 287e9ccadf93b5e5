"""A replica far slower than the others of its revision is left out; who is only unlucky is not. Virtual time."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest

from controlplane.domain.base import RevisionId
from controlplane.domain.door.routing import Backend
from controlplane.gateway.choice import soonest
from controlplane.gateway.paces import Paces, Sample
from controlplane.gateway.pools import Pool, Replica

SECONDS = 200.0


def replicas(count: int) -> tuple[Replica, ...]:
    return tuple(Replica(Backend(engine_id=f"e{n}", url=f"http://e{n}"), RevisionId("rev-a")) for n in range(count))


def simulated(slower: Sequence[float], *, spread: float, seed: int) -> tuple[Counter[str], int]:
    """Ask replicas that take `slower` times as long, in lognormal times of so wide a spread, ten a second each.

    Return how many requests each had, and how often one was ejected.
    """
    pool, paces, chance = Pool(RevisionId("rev-a"), 100, replicas(len(slower))), Paces(), Random(seed)
    factor = {replica.backend.engine_id: each for replica, each in zip(pool.replicas, slower, strict=True)}
    asked: Counter[str] = Counter()
    ejections, now, ends, number = 0, 0.0, list[tuple[float, int, Replica, float, bool]](), 0
    while now < SECONDS:
        now += chance.expovariate(10.0 * len(slower))
        while ends and ends[0][0] <= now:
            end, _, replica, took, probe = heapq.heappop(ends)
            replica.tokens -= 1
            before = replica.breaker.ejections
            sample = Sample(("/v1/chat/completions", "first", 2, 0), took, 0.25)
            slow = paces.is_slow(replica.backend.engine_id, [sample], end)
            replica.breaker.went_well(end, probe=probe, slow=slow)
            replica.breaker.end(probe)
            ejections += replica.breaker.ejections > before
        usable = pool.usable(now)
        assert 2 * len(usable) >= len(slower)
        replica = soonest(usable, (), chance)
        asked[replica.backend.engine_id] += 1
        replica.tokens += 1
        took = factor[replica.backend.engine_id] * chance.lognormvariate(-1.0, spread)
        number += 1
        heapq.heappush(ends, (now + took, number, replica, took, replica.breaker.begin()))
    return asked, ejections


@pytest.mark.parametrize("count", [2, 4])
def test_a_replica_that_is_six_times_slower_gets_little_but_probes(count: int) -> None:
    for seed in range(5):
        asked, ejections = simulated([1.0] * (count - 1) + [6.0], spread=0.5, seed=seed)
        assert ejections >= 3
        assert asked[f"e{count - 1}"] < 100  # a twentieth of its share: probes, and what follows a lucky one


@pytest.mark.parametrize("spread", [0.5, 1.0])
def test_of_equal_ones_none_is_ejected(spread: float) -> None:
    assert [simulated([1.0] * 4, spread=spread, seed=seed)[1] for seed in range(5)] == [0] * 5


def test_when_most_are_slow_half_of_all_are_asked_nevertheless() -> None:
    asked, ejections = simulated([1.0, 6.0, 6.0, 6.0], spread=0.5, seed=1)
    assert ejections > 0
    assert sum(asked.values()) - asked["e0"] > 1000  # the half that is asked takes 4 of every 24 s; of 8,000


def test_without_others_to_compare_with_nothing_is_known() -> None:
    paces = Paces()
    kind = ("/v1/chat/completions", "first", 2, 0)
    assert [paces.is_slow("e0", [Sample(kind, 9.0, 0.25)], 1.0) for _ in range(20)] == [None] * 20
    assert [paces.is_slow("e1", [Sample(kind, took, 0.25)], 1.0) for took in (9.0, 30.0)] == [False, True]
    assert paces.is_slow("e1", [Sample((*kind[:2], 3, 0), 30.0, 0.25)], 1.0) is None  # of another size
    assert paces.is_slow("e1", [Sample(kind, 30.0, 0.25)], 62.0) is None  # too long ago


def test_who_is_slower_by_less_than_matters_is_not_slow() -> None:
    paces = Paces()
    kind = ("/v1/chat/completions", "gap", 0, 0)
    for _ in range(8):
        paces.is_slow("e0", [Sample(kind, 0.002, 0.02)], 1.0)
    assert paces.is_slow("e1", [Sample(kind, 0.02, 0.02)], 1.0) is False
    assert paces.is_slow("e1", [Sample(kind, 0.03, 0.02)], 1.0) is True
