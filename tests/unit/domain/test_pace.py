"""How long a level lasts: enough requests for its percentiles, a steady state first, and never for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.slo import LatencyMetric, LatencySlo, SloSet
from controlplane.domain.studies.pace import fewest_requests, pace
from controlplane.domain.studies.tuning_options import LevelOptions

OPTIONS = LevelOptions(min_s=10, max_s=60, warmup_s=2)


def slos(*percentiles: float) -> SloSet:
    limits = tuple(LatencySlo(metric=LatencyMetric.TTFT, percentile=each, limit_ms=500) for each in percentiles)
    return SloSet(latency=limits, target_qps=10)


@pytest.mark.parametrize(("percentile", "requests"), [(50, 5), (90, 29), (95, 59), (99, 299), (99.9, 2995)])
def test_the_fewest_requests_hold_one_beyond_the_percentile_almost_surely(percentile: float, requests: int) -> None:
    assert fewest_requests(percentile) == requests
    assert 1 - (percentile / 100) ** requests >= 0.95 > 1 - (percentile / 100) ** (requests - 1)


def test_a_level_lasts_longer_at_a_low_rate_and_its_usual_time_at_a_high_one() -> None:
    assert pace(slos(99), OPTIONS, 50.0).duration_s == 60
    slow = pace(slos(99), OPTIONS, 2.0)
    assert slow.duration_s * 2.0 >= 299
    assert slow.duration_s < 200


def test_the_strictest_percentile_decides() -> None:
    assert pace(slos(50, 99), OPTIONS, 2.0) == pace(slos(99), OPTIONS, 2.0)


def test_a_level_that_decides_rests_on_more_requests() -> None:
    search, decision = pace(slos(99), OPTIONS, 5.0), pace(slos(99), OPTIONS, 5.0, deciding=True)
    assert decision.enough >= 3 * search.enough
    assert decision.duration_s * 5.0 >= decision.enough


def test_no_level_goes_on_for_ever_and_then_it_has_fewer_than_enough() -> None:
    found = pace(slos(99), OPTIONS, 0.1, deciding=True)
    assert found.duration_s == OPTIONS.most_s == 300
    assert found.duration_s * 0.1 < found.enough
    assert pace(slos(99), OPTIONS.evolve(longest_s=90), 0.1).duration_s == 90


def test_what_stays_long_is_warmed_up_and_measured_for_longer() -> None:
    brief, long = pace(slos(90), OPTIONS, 10.0, residence_s=1.0), pace(slos(90), OPTIONS, 10.0, residence_s=40.0)
    assert (brief.warmup_s, brief.duration_s) == (2, 60)
    assert (long.warmup_s, long.duration_s) == (15, 120)  # a quarter of max_s, three residences


def test_a_limit_below_the_usual_time_is_refused() -> None:
    with pytest.raises(ValueError, match="longest_s 30"):
        LevelOptions(max_s=60, longest_s=30)


@given(
    rate=st.floats(0.01, 500),
    stays_s=st.one_of(st.none(), st.floats(0, 1000)),
    percentile=st.sampled_from([50.0, 90.0, 95.0, 99.0, 99.9]),
    deciding=st.booleans(),
)
def test_every_level_is_bounded_and_holds_enough_unless_the_bound_says_no(
    rate: float, stays_s: float | None, percentile: float, deciding: bool
) -> None:
    found = pace(slos(percentile), OPTIONS, rate, deciding=deciding, residence_s=stays_s)
    assert OPTIONS.max_s <= found.duration_s <= OPTIONS.most_s
    assert OPTIONS.warmup_s <= found.warmup_s <= OPTIONS.max_s / 4
    assert found.duration_s * rate >= found.enough or found.duration_s == OPTIONS.most_s


def test_a_fleet_s_check_lasts_longest_and_claims_no_more_than_a_decision() -> None:
    decision = pace(slos(95), OPTIONS, 2.5, deciding=True)
    check = pace(slos(95), OPTIONS, 2.5, checking=True)
    assert check.duration_s > 2 * decision.duration_s
    assert check.enough == decision.enough
    assert pace(slos(95), OPTIONS, 50.0, checking=True).duration_s == 60
    assert pace(slos(99), OPTIONS, 1.0, checking=True).duration_s == OPTIONS.most_s
