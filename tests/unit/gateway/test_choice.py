"""Choosing a revision by weight and a replica by load, without any network."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain.base import RevisionId
from controlplane.domain.door.routing import Backend
from controlplane.gateway.breaker import FAILED
from controlplane.gateway.choice import choose, session_score
from controlplane.gateway.pools import Pool, Replica, Route

SESSIONS = [f"session-{number}" for number in range(4000)]


def replica(name: str, revision: str, in_flight: int = 0) -> Replica:
    return Replica(Backend(engine_id=name, url=f"http://{name}"), RevisionId(revision), in_flight=in_flight)


def pool(revision: str, weight: int, *in_flight: int) -> Pool:
    replicas = tuple(replica(f"{revision}-{index}", revision, load) for index, load in enumerate(in_flight))
    return Pool(RevisionId(revision), weight, replicas)


def route(*pools: Pool) -> Route:
    return Route(service="chat", model="llama", pools=pools)


def pick(
    where: Route,
    *,
    session: str | None = None,
    tried: tuple[Replica, ...] = (),
    prefer: str | None = None,
    seed: int = 0,
) -> Replica | None:
    preferred = RevisionId(prefer) if prefer else None
    return choose(where, session=session, tried=tried, prefer=preferred, now=0.0, chance=Random(seed))


def revision_of(where: Route, session: str) -> str:
    found = pick(where, session=session)
    assert found is not None
    return found.revision


def test_sessions_are_shared_out_by_weight() -> None:
    where = route(pool("stable", 95, 0), pool("canary", 5, 0))
    share = Counter(revision_of(where, session) for session in SESSIONS)["canary"] / len(SESSIONS)
    assert 0.036 <= share <= 0.064  # 5 % ± 4 standard deviations of a binomial of 4000


@given(weights=st.lists(st.integers(1, 100), min_size=2, max_size=6, unique=True))
@settings(max_examples=30, deadline=None)
def test_a_growing_canary_never_gives_a_session_back(weights: list[int]) -> None:
    earlier: set[str] = set()
    for weight in sorted(weights):
        where = route(pool("stable", 100 - weight, 0), pool("canary", weight, 0))
        now = {session for session in SESSIONS[:200] if revision_of(where, session) == "canary"}
        assert earlier <= now
        earlier = now


def test_the_order_of_revisions_in_the_table_does_not_matter() -> None:
    one, other = pool("stable", 60, 0), pool("canary", 40, 0)
    for session in SESSIONS[:200]:
        assert revision_of(route(one, other), session) == revision_of(route(other, one), session)


def test_a_revision_that_goes_away_moves_only_its_own_sessions() -> None:
    before = route(pool("a", 50, 0), pool("b", 30, 0), pool("c", 20, 0))
    after = route(pool("a", 50, 0), pool("b", 30, 0), pool("c", 20))
    for session in SESSIONS[:300]:
        if revision_of(before, session) != "c":
            assert revision_of(after, session) == revision_of(before, session)


def test_the_score_grows_with_the_weight() -> None:
    assert session_score("s", RevisionId("r"), 20) > session_score("s", RevisionId("r"), 5) > 0


def test_the_least_loaded_replica_is_chosen() -> None:
    found = pick(route(pool("stable", 100, 3, 1, 2)))
    assert found is not None
    assert found.backend.engine_id == "stable-1"


def test_ties_are_broken_at_random() -> None:
    where = route(pool("stable", 100, 0, 0, 0))
    chosen = {found.backend.engine_id for seed in range(40) if (found := pick(where, seed=seed))}
    assert len(chosen) == 3


def test_the_preferred_revision_wins_while_it_has_an_untried_replica() -> None:
    canary, stable = pool("canary", 1, 0, 0), pool("stable", 99, 0)
    first = pick(route(canary, stable), tried=canary.replicas[:1], prefer="canary")
    then = pick(route(canary, stable), tried=canary.replicas, prefer="canary")
    assert first is canary.replicas[1]
    assert then is stable.replicas[0]


def test_nothing_untried_is_none() -> None:
    stable = pool("stable", 100, 0)
    assert pick(route(stable), tried=stable.replicas) is None
    assert pick(route()) is None


def test_a_replica_put_aside_gets_nothing_while_another_is_there() -> None:
    stable = pool("stable", 100, 0, 5)
    stable.replicas[0].breaker.failed_to_connect(0.0)
    assert pick(route(stable)) is stable.replicas[1]


def test_when_all_are_put_aside_they_are_tried_nevertheless() -> None:
    stable = pool("stable", 100, 0)
    stable.replicas[0].breaker.failed_to_connect(0.0)
    assert pick(route(stable)) is stable.replicas[0]


def eject(one: Replica, now: float = 0.0) -> None:
    for _ in range(FAILED):
        one.breaker.failed(now, probe=False)


def test_an_ejected_replica_gets_nothing_while_another_is_there() -> None:
    stable = pool("stable", 100, 0, 5)
    eject(stable.replicas[0])
    assert pick(route(stable)) is stable.replicas[1]


@given(ejected=st.lists(st.booleans(), min_size=1, max_size=9), order=st.randoms(use_true_random=False))
def test_never_more_than_half_of_a_pool_is_ejected(ejected: list[bool], order: Random) -> None:
    fleet = pool("stable", 100, *([0] * len(ejected)))
    for one, bad in zip(fleet.replicas, ejected, strict=True):
        if bad:
            eject(one, order.random())
    usable = fleet.usable(1.0)
    assert len(usable) >= len(ejected) - len(ejected) // 2
    assert all(one in usable for one, bad in zip(fleet.replicas, ejected, strict=True) if not bad)


def test_when_all_fail_they_are_asked_nevertheless() -> None:
    stable = pool("stable", 100, 0, 0)
    for one in stable.replicas:
        eject(one)
    first = pick(route(stable))
    assert first is not None
    assert pick(route(stable), tried=(first,)) is not None
