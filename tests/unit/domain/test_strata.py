"""Like is compared with like: a canary that is seldom busy beside a stable that often is."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.rollouts.analysis import Counts, Strata, Verdict
from controlplane.domain.rollouts.comparing import Control, Evidence, compare
from controlplane.domain.rollouts.judge import judge
from controlplane.domain.rollouts.rollout_options import RolloutOptions
from controlplane.domain.rollouts.strata import Matching, describe_strata, stratum_of
from tests.builders_serving import NOW, after
from tests.unit.domain.test_judge import SLOS, STEP, record

BY_STRATA = RolloutOptions(match_load=False)
IDLE, BUSY = 1, 12


def request(ahead: int | None = IDLE, **changes: object) -> GatewayRecord:
    return record(ahead=ahead, prompt_tokens=500, **changes)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ({"ahead": 4}, {"ahead": 7}, True),
        ({"ahead": 4}, {"ahead": 8}, False),
        ({"prompt_tokens": 300}, {"prompt_tokens": 500}, True),
        ({"prompt_tokens": 300}, {"prompt_tokens": 5000}, False),
        ({"prompt_tokens": None, "prompt_bytes": 1600}, {"prompt_tokens": 400}, True),
        ({"cached_blocks": 3}, {"cached_blocks": 1}, True),
        ({"cached_blocks": 3}, {"cached_blocks": 9}, False),
        ({"cached_blocks": None}, {"cached_blocks": 0}, True),
    ],
)
def test_requests_are_alike_by_load_length_and_cached_share(
    one: dict[str, object], other: dict[str, object], alike: bool
) -> None:
    base: dict[str, object] = {"ahead": 1, "prompt_tokens": 500, "prefix_blocks": tuple(range(10))}
    first, second = (stratum_of(record(**{**base, **changes})) for changes in (one, other))
    assert (first == second) is alike


def test_each_of_the_canary_s_waits_for_three_of_its_stratum_and_no_other() -> None:
    matching = Matching()
    matching.see(request(IDLE), missed=True, of_canary=True)
    for ahead in (BUSY, BUSY, BUSY, IDLE, IDLE):
        matching.see(request(ahead), missed=False, of_canary=False)
    waits = matching.strata()
    assert waits is not None
    assert (waits.canary.requests, waits.unmatched, waits.busier) == (0, 1, 0.6)
    matching.see(request(IDLE), missed=True, of_canary=False)
    found = matching.strata()
    assert found is not None
    assert (found.canary.slo_misses, found.stable.requests, found.stable.slo_misses, found.unmatched) == (1, 3, 1, 0)


def test_what_no_gateway_told_the_load_of_is_not_matched() -> None:
    matching = Matching()
    matching.see(request(None), missed=True, of_canary=True)
    assert matching.strata() is None


def simulated(canary_misses: Callable[[int], float]) -> Evidence:
    """Stable is busy four times in five and then misses 30 %, else 2 %; a canary replica is busy once in five."""
    rng, matching = random.Random(8), Matching()
    counted = {True: [0, 0], False: [0, 0]}
    for _ in range(30000):
        of_canary = rng.random() < 0.2
        ahead = BUSY if rng.random() < (0.2 if of_canary else 0.8) else IDLE
        ratio = canary_misses(ahead) if of_canary else stable_misses(ahead)
        missed = rng.random() < ratio
        counted[of_canary][0] += 1
        counted[of_canary][1] += missed
        matching.see(request(ahead), missed=missed, of_canary=of_canary)
    canary, stable = (Counts(requests=n, slo_misses=m, errors=0) for n, m in (counted[True], counted[False]))
    return Evidence(canary=canary, stable=stable, control=Control.CONCURRENT, strata=matching.strata())


def stable_misses(ahead: int) -> float:
    return 0.3 if ahead == BUSY else 0.02


def worse(ahead: int) -> float:
    return 0.65 if ahead == BUSY else 0.12


def test_an_equal_canary_that_is_seldom_busy_is_found_equal_and_not_better() -> None:
    evidence = simulated(stable_misses)
    plain, matched = (compare(evidence, SLOS, options)[0] for options in (RolloutOptions(), BY_STRATA))
    assert plain.high < -0.1
    assert matched.low < 0 < matched.high
    assert matched.difference == pytest.approx(0, abs=0.02)


def test_a_worse_one_that_hides_behind_its_little_load_fails() -> None:
    evidence = simulated(worse)
    assert judge(evidence, SLOS, RolloutOptions(), STEP, started_at=NOW, now=after(60)).verdict is Verdict.PASS
    failed = judge(evidence, SLOS, BY_STRATA, STEP, started_at=NOW, now=after(60))
    assert failed.verdict is Verdict.FAIL
    assert "misses matched by strata" in failed.reason


def test_one_that_is_busy_for_being_slow_and_finds_no_like_fails_all_the_same() -> None:
    matching = Matching()
    for _ in range(200):
        matching.see(request(BUSY), missed=True, of_canary=True)
        for _ in range(4):
            matching.see(request(IDLE), missed=False, of_canary=False)
    canary = Counts(requests=200, slo_misses=200, errors=0)
    stable = Counts(requests=800, slo_misses=0, errors=0)
    evidence = Evidence(canary=canary, stable=stable, control=Control.CONCURRENT, strata=matching.strata())
    assert evidence.strata is not None
    assert evidence.strata.unmatched == 200
    assert judge(evidence, SLOS, BY_STRATA, STEP, started_at=NOW, now=after(60)).verdict is Verdict.FAIL


def test_strata_say_how_far_the_load_falls_short() -> None:
    some = Counts(requests=40, slo_misses=1, errors=0)
    told = Strata(canary=some, stable=some.evolve(requests=120), unmatched=3, busier=0.62)
    said = describe_strata(told)
    assert said.startswith("40 canary requests beside 120 like ones of stable's")
    assert said.endswith("3 without a like; 62 % of stable's came with more in flight than any of the canary's")
