"""How often guard rails and the share check hit a canary that equals stable, or traffic that is split as asked."""

from __future__ import annotations

import random

import pytest

from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.rollouts.comparing import Control, Evidence, Flights, split_problem
from controlplane.domain.rollouts.guards import guard
from tests.builders_serving import NOW, after
from tests.unit.domain.test_judge import OPTIONS, counted, counts, record


@pytest.mark.parametrize(
    ("cut", "stable_cut", "hit"), [(3, 0, "truncated"), (3, 1, "truncated"), (3, 5, None), (6, 20, None)]
)
def test_streams_that_the_engine_cuts_as_often_at_stable_are_not_the_canary_s(
    cut: int, stable_cut: int, hit: str | None
) -> None:
    """It has a twentieth of the requests: three of eight cut streams may well be chance, looked at so often."""
    canary = counted([record(error="truncated", truncated=True)] * cut + [record()] * (1000 - cut))
    evidence = Evidence(canary=canary.counts(), stable=counts(19000, truncated=stable_cut), control=Control.CONCURRENT)
    found = guard([canary], evidence, OPTIONS, after(10))
    assert (None if found is None else found.guard) == hit


@pytest.mark.parametrize("share", [0.001, 0.003])
def test_an_equal_canary_is_not_aborted_for_streams_that_engines_cut_now_and_then(share: float) -> None:
    """Three cut streams and twice stable's share aborted 9 to 33 %, long before a thousand requests."""
    assert sum(_aborted_for_cuts(share, random.Random(seed)) for seed in range(40)) <= 2


def _aborted_for_cuts(share: float, chance: random.Random) -> bool:
    cut, asked = [0, 0], [0, 0]
    while asked[0] < 1000:
        arm, broken = chance.random() >= 0.2, chance.random() < share
        asked[arm], cut[arm] = asked[arm] + 1, cut[arm] + broken
        if not broken or arm or cut[0] < OPTIONS.guard_truncated:
            continue
        mine, others = (counts(n, truncated=hit) for n, hit in zip(asked, cut, strict=True))
        if guard([], Evidence(canary=mine, stable=others, control=Control.CONCURRENT), OPTIONS, NOW) is not None:
            return True
    return False


@pytest.mark.parametrize(("share", "run"), [(0.05, 1), (0.02, 3)])
def test_an_equal_canary_is_not_aborted_for_errors_that_stable_has_too(share: float, run: int) -> None:
    """Within five minutes 13 to 65 % were: three failures in five seconds are no burst where 3 % fail."""
    assert sum(_aborted_for_errors(share, run, random.Random(seed)) for seed in range(15)) <= 1


def _aborted_for_errors(share: float, run: int, chance: random.Random) -> bool:
    """A window each five seconds, of six requests of the canary's and 24 of stable's, which served before too."""
    arms, left = (counted([]), counted([])), [0, 0]
    for second in range(-100, 200, 5):
        for which, requests in enumerate((6 * (second >= 0), 24)):
            for _ in range(requests):
                left[which] = left[which] - 1 if left[which] else run * (chance.random() < share / run)
                failed = {"status": 503, "error": "upstream_5xx"} if left[which] else {}
                arms[which].add(record(at=after(second), **failed))
        mine, others = (arm.counts() for arm in arms)
        seen = Evidence(canary=mine, stable=others, control=Control.CONCURRENT)
        if guard([arms[0]], seen, OPTIONS, after(second + 1), beside=arms[1]) is not None:
            return True
    return False


def asked(mine: int, theirs: int, *, flying: tuple[int, int] = (0, 0)) -> str | None:
    return split_problem(
        Evidence(
            canary=counts(0).evolve(asked=mine),
            stable=counts(0).evolve(asked=theirs),
            control=Control.CONCURRENT,
            weight_percent=5,
            canary_flights=Flights(in_flight=flying[0]),
            stable_flights=Flights(in_flight=flying[1]),
        )
    )


def test_the_open_requests_of_a_session_are_no_arrivals_of_their_own() -> None:
    """Three of forty sessions, and one of them asks for sixty things at once: that held a step of a good canary."""
    assert asked(3, 37, flying=(60, 30)) is None
    assert asked(60, 340, flying=(60, 30)) is not None


def test_a_canary_that_finishes_nothing_has_its_share_in_flight() -> None:
    assert asked(0, 500, flying=(25, 10)) is None
    assert asked(0, 500, flying=(0, 10)) is not None


def test_requests_of_a_session_that_is_split_up_are_arrivals_each() -> None:
    """All clients send one user: the split of that was held to nothing."""
    same: list[GatewayRecord] = [record(session="s", split_up=True)] * 200
    kept = [record(session="t")] * 200
    assert counted(same).counts().asked == 200
    assert counted(kept).counts().asked == 1
