"""Percentiles bounded at every look, from counts that no look makes more of."""

from __future__ import annotations

import random

import pytest

from controlplane.domain.rollouts.bursts import Series
from controlplane.domain.rollouts.spread import Beside, Curve, Range, Spread, bounds

NOTHING = Spread().curve()


def curve_of(values: list[float], *, chains: int = 1) -> Curve:
    spread = Spread()
    for number, each in enumerate(values):
        spread.see(number % chains, each)
    return spread.curve()


def range_of(curve: Curve, percentile: float, alpha: float = 0.05) -> Range:
    return bounds(curve, percentile, alpha, Beside((), None, declared_run=2.0))


def edge_beyond(curve: Curve, hits: int) -> int:
    return list(curve.hits).index(hits)


def test_beyond_every_latency_the_runs_are_those_of_a_chain() -> None:
    curve = curve_of([10, 200, 300, 10, 200, 10, 300])
    assert curve.at(edge_beyond(curve, 4)) == Series(7, hits=4, runs=3, open=1)
    assert curve.at(edge_beyond(curve, 2)) == Series(7, hits=2, runs=2, open=1)
    assert curve.at(0) == Series(7, hits=7, runs=1, open=1)


def test_each_gateway_s_requests_are_a_chain_of_their_own() -> None:
    curve = curve_of([500, 10, 500, 10, 500, 10], chains=2)
    assert curve.at(edge_beyond(curve, 3)) == Series(6, hits=3, runs=1, open=1)


@pytest.mark.parametrize("percentile", [50, 95, 99])
def test_a_percentile_lies_within_its_bounds_which_close_in_on_it(percentile: float) -> None:
    rng = random.Random(3)
    values = [rng.lognormvariate(5, 0.6) for _ in range(12000)]
    few, many = (curve_of(values[:n]) for n in (2000, 12000))
    wide, narrow = (range_of(each, percentile) for each in (few, many))
    assert wide.high_ms is not None
    assert narrow.high_ms is not None
    true = sorted(values)[int(percentile / 100 * len(values))]
    assert wide.low_ms < narrow.low_ms < true < narrow.high_ms < wide.high_ms
    assert many.percentile_ms(percentile) == pytest.approx(true, rel=0.02)


def test_nothing_is_known_of_a_percentile_before_enough_was_seen() -> None:
    assert range_of(NOTHING, 50) == Range(0.0, None)
    assert range_of(curve_of([100.0] * 300), 99).high_ms is None


def test_slow_requests_in_runs_say_less_than_as_many_apart() -> None:
    apart = curve_of(([100.0] * 9 + [900.0]) * 100)
    together = curve_of(([100.0] * 90 + [900.0] * 10) * 10)
    near, far = (range_of(each, 80).high_ms for each in (apart, together))
    assert near is not None
    assert near < 105
    assert far is None or far > 890


def test_what_is_beyond_the_grid_leaves_the_upper_end_open() -> None:
    assert range_of(curve_of([1e9] * 5000), 50).high_ms is None


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no value was seen"):
        NOTHING.percentile_ms(99)
