"""The difference of two ratios, bounded by both arms together: never beyond what a search of all pairs finds."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain.rollouts.bursts import Chain, Series, expected_end
from controlplane.domain.rollouts.pairs import Difference, Side
from tests.unit.domain.test_bursts import chain, seen

possible = seen().filter(lambda found: found.runs <= found.n - found.hits + found.open)
ends = st.sampled_from([0.05, 0.3, 0.8])


@given(possible, possible, possible, ends, ends, st.sampled_from([-0.2, 0.0, 0.05, 0.3]))
@settings(max_examples=60)
def test_no_pair_of_ratios_is_likelier_than_the_one_found(
    mine: Series, others: Series, before: Series, end: float, other_end: float, difference: float
) -> None:
    found = Difference(Side(mine, end, before), Side(others, other_end, before)).least_at(difference)
    one, other = Chain(mine, before), Chain(others, before)
    for ratio in np.linspace(max(0.0, -difference), min(1.0, 1 - difference), 60):
        a = one.least_at(min(1.0, max(0.0, float(ratio) + difference)), end)
        b = other.least_at(float(ratio), other_end)
        together = np.logaddexp(math.log(0.75) + a + b, math.log(0.2) + a)
        assert found <= np.logaddexp(together, math.log(0.05) + b) + 0.05


@given(possible, possible, st.floats(0.001, 0.2))
@settings(max_examples=60)
def test_bounds_lie_around_the_estimate_and_widen_with_confidence(mine: Series, others: Series, alpha: float) -> None:
    found = Difference(Side(mine, 0.5), Side(others, 0.5))
    assert -1 <= found.low(alpha) <= found.estimate + 1e-3
    assert found.estimate - 1e-3 <= found.high(alpha) <= 1
    assert found.low(alpha / 4) <= found.low(alpha) + 1e-3
    assert found.above(0.0, alpha) == (found.estimate > 0 and found.least_at(0.0) >= -math.log(alpha))


@pytest.mark.parametrize("mean_run", [1.0, 5.0, 20.0])
def test_the_true_difference_is_covered_at_every_look_whatever_the_runs(mean_run: float) -> None:
    rng, alpha, wrong, lives = random.Random(5), 0.1, 0, 40
    end = min(1 / mean_run, 0.9)
    for _ in range(lives):
        mine, others = chain(rng, 0.1, mean_run, 800), chain(rng, 0.05, mean_run, 800)
        pairs = (Difference(Side(a, end), Side(b, end)) for a, b in zip(mine, others, strict=True))
        wrong += any(not each.low(alpha) <= 0.05 <= each.high(alpha) for each in pairs)
    assert wrong <= 2 * alpha * lives


def test_a_bet_on_what_stable_showed_needs_fewer_requests_and_a_wrong_one_is_no_danger() -> None:
    before = Series(4000, 120, 116, 0)
    equal, stable = Series(300, 9, 9, 0), Series(1200, 36, 35, 0)
    end = expected_end([stable, before], 2)
    with_it, without = (Difference(Side(equal, end, b), Side(stable, end, b)) for b in (before, None))
    assert with_it.high(0.05) < without.high(0.05) - 0.01
    worse = Series(300, 39, 34, 0)
    assert Difference(Side(worse, end, before), Side(stable, end, before)).high(0.05) > 0.1


def test_runs_longer_than_such_chains_have_are_not_explained() -> None:
    together = Side(Series(400, 200, 1, 1), 0.5)
    assert not Difference(together, Side(Series(400, 12, 12, 0), 0.5)).explained(0.01)
