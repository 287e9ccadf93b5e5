"""What is certain of two arms: users count once, bounds hold at every look, the plan keeps its power."""

from __future__ import annotations

import math
import random
from statistics import NormalDist

import pytest

from benchmarks.ab import WORLDS, Trial, World, false_positives
from controlplane.domain.ab_tests.ab_test import AbOptions
from controlplane.domain.ab_tests.bounds import LEAST_USERS, apart, bounds, standard_error
from controlplane.domain.ab_tests.means import Means
from controlplane.domain.ab_tests.metrics import AbMetric
from controlplane.domain.ab_tests.planning import MOST_USERS, effect_of, users_needed
from controlplane.domain.errors import InvalidInput
from controlplane.domain.rollouts.anytime import difference_bounds, differs

TTFT = WORLDS[0]


def means(*values: float) -> Means:
    found = Means()
    for value in values:
        found.take(value)
    return found


def test_a_users_later_requests_move_that_users_mean_and_add_no_user() -> None:
    found = means(1.0, 3.0)
    found.take(2.0, before=1.0)
    assert (found.users, found.mean) == (2, 2.5)
    assert found.variance == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("a", "n_a", "b", "n_b"), [(3, 90, 4.5, 90), (2, 90, 20, 80), (30.5, 60, 2, 400), (0, 40, 0, 40), (0, 300, 9, 290)]
)
def test_the_quick_answer_is_that_of_the_bounds(a: float, n_a: int, b: float, n_b: int) -> None:
    for alpha in (0.2, 0.05, 0.001):
        low, high = difference_bounds(a, n_a, b, n_b, alpha)
        assert differs(a, n_a, b, n_b, alpha) == (low > 0 or high < 0)


def test_nothing_is_said_of_a_mean_of_few_users() -> None:
    few, many = means(*[5.0] * (LEAST_USERS - 1)), means(*[9.0] * 500)
    assert bounds(AbMetric.TTFT, few, many, alpha=0.05, planned=1000) is None
    assert bounds(AbMetric.ERRORS, Means(), many, alpha=0.05, planned=1000) is None


def test_bounds_on_a_mean_are_wider_than_those_of_one_look_and_shrink() -> None:
    chance = random.Random(3)
    widths = []
    for users in (200, 800):
        arms = [means(*(chance.gauss(5, 0.6) for _ in range(users))) for _ in range(2)]
        found = bounds(AbMetric.TTFT, *arms, alpha=0.05, planned=1000)
        assert found is not None
        widths.append(found.high - found.low)
        assert found.high - found.low > 2 * NormalDist().inv_cdf(0.975) * standard_error(*arms)
    assert widths[1] < widths[0]


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_equal_arms_are_seldom_called_different_however_often_one_looks(world: World) -> None:
    """Every request is a look; `docs/results/ab-tests.json` has a thousand tests of each kind."""
    found = false_positives(world, returning=True, tests=12, users=300, seed=2)
    assert found["wrong"] <= 1 / 12


def test_the_minimum_effect_is_found_within_the_users_planned() -> None:
    options = AbOptions(metric=AbMetric.TTFT, minimum_effect_percent=30)
    planned = 2 * users_needed(options, baseline=TTFT.baseline, spread=TTFT.spread, alpha=0.05)
    chance, found = random.Random(4), 0
    for _ in range(20):
        test = Trial(TTFT, chance, effect=-effect_of(AbMetric.TTFT, 30))
        for _ in test.requests(planned):
            pass
        found += test.apart(planned)
    assert found / 20 >= options.power - 0.2


def test_a_smaller_effect_or_a_smaller_arm_takes_more_users() -> None:
    def needed(effect: float, metric: AbMetric = AbMetric.ERRORS, **changes: float) -> int:
        given = {"baseline": 0.05, "spread": math.sqrt(0.05 * 0.95), "alpha": 0.05} | changes
        return users_needed(AbOptions(metric=metric, minimum_effect_percent=effect), **given)

    assert needed(1) > needed(2) > needed(4)
    assert needed(2, alpha=0.01) > needed(2)
    assert needed(10, AbMetric.TTFT, spread=0.6) > needed(20, AbMetric.TTFT, spread=0.6)
    small = needed(2, share=0.1)
    assert small < needed(2)  # of the small arm itself: the other one is nine times as large
    assert small / 0.1 > needed(2) / 0.5


def test_an_effect_that_nobody_could_find_is_refused_before_the_test() -> None:
    options = AbOptions(metric=AbMetric.ERRORS, minimum_effect_percent=0.001)
    with pytest.raises(InvalidInput, match="more than 10,000,000 users"):
        users_needed(options, baseline=0.3, spread=0.45, alpha=0.05)


def test_ten_million_users_an_arm_are_planned_and_no_more() -> None:
    def needed(percent: float) -> int:
        options = AbOptions(metric=AbMetric.ERRORS, minimum_effect_percent=percent)
        return users_needed(options, baseline=0.3, spread=math.sqrt(0.21), alpha=0.05)

    most = needed(0.15)
    assert 0.9 * MOST_USERS < most < MOST_USERS
    with pytest.raises(InvalidInput, match="more than 10,000,000 users"):
        needed(0.14)  # (15/14)² as many


def test_an_effect_is_seen_and_its_direction_is_that_of_the_challenger() -> None:
    chance = random.Random(5)
    control = means(*(chance.gauss(5.0, 0.3) for _ in range(600)))
    slower = means(*(chance.gauss(5.3, 0.3) for _ in range(600)))
    found = bounds(AbMetric.TTFT, control, slower, alpha=0.05, planned=1200)
    assert found is not None
    assert found.low > 0
    assert apart(AbMetric.TTFT, control, slower, alpha=0.05, planned=1200)
