"""Several twins that explain the baseline as well: the trials say which one the search goes by."""

from __future__ import annotations

import math

import numpy as np
import pytest

from controlplane.domain.studies.tuning_options import Strategy
from tests.unit.tuner.search.test_search import POINTS, among, cost
from tuner.search.advisor import measurements, trust
from tuner.search.candidates import Candidates, Outlook, RivalOutlook, Tried
from tuner.search.doubting_sampler import off_by
from tuner.search.hypotheses import hypotheses_of
from tuner.search.search import Finished, Proposal, Search
from tuner.search.surrogate import Array, believe, column_groups

RIGHT = np.array([cost(point) for point in POINTS])
WRONG = np.random.default_rng(5).permutation(RIGHT) * 3
KNOWN = [Tried(POINTS[row], log_cost=cost(POINTS[row])) for row in range(0, 35, 7)]


def outlook(forecast: Array, simulated: bool = True) -> Outlook:
    return Outlook(forecast.copy(), np.full(len(POINTS), simulated), lambda row: float(RIGHT[row]))


def beside(forecast: Array, other: Array, odds: float = 0.5) -> Candidates:
    return among(forecast)._replace(rivals=[RivalOutlook(outlook(other), odds)])


def leader(found: Candidates, tried: list[Tried]) -> int:
    told = measurements(tried, found.row_of)
    return believe(found.features, column_groups(found.space), found.forecast, told, rivals=found.forecasts[1:]).leader


def test_shares_of_the_likelihood_follow_the_odds_and_sum_to_one() -> None:
    assert among().forecasts == ()
    assert [share for _, share in beside(RIGHT, WRONG, odds=0.25).forecasts] == pytest.approx([0.8, 0.2])


def test_a_rival_takes_its_share_of_the_weight_of_the_forecast_and_none_of_the_others() -> None:
    alone, shared = hypotheses_of(RIGHT), hypotheses_of(RIGHT, rivals=[(WRONG, 0.3)])
    weight = sum(h.weight for h, _ in alone)
    assert sum(h.weight for h, _ in shared) == pytest.approx(weight)
    trusting = sum(h.weight for h, base in alone if base is RIGHT)
    assert sum(h.weight for h, base in shared if base is WRONG) == pytest.approx(0.3 * trusting)


def test_before_any_trial_the_likeliest_leads_and_then_the_one_that_they_bear_out() -> None:
    assert leader(beside(WRONG, RIGHT), []) == 0
    assert leader(beside(WRONG, RIGHT), KNOWN) == 1
    assert leader(beside(RIGHT, WRONG), KNOWN) == 0


def test_trust_is_in_all_twins_together_and_the_best_of_them_says_how_far_off_they_were() -> None:
    known = [Tried(POINTS[row], log_cost=cost(POINTS[row])) for row in range(0, 56, 7)]
    assert trust(among(WRONG), known) < 0.5 < trust(beside(WRONG, RIGHT), known)
    assert off_by(beside(WRONG, RIGHT), known) == pytest.approx(0.0, abs=1e-9)
    assert off_by(among(WRONG), known) > 0.15


def test_a_closer_look_is_every_twins() -> None:
    found = beside(RIGHT, WRONG)._replace(rivals=[RivalOutlook(outlook(WRONG, simulated=False), 0.5)])
    assert found.look_at(3)
    assert found.rivals[0].outlook.log_cost[3] == RIGHT[3]
    assert not found.look_at(3)


def test_a_search_whose_likeliest_twin_is_wrong_finds_the_optimum_by_the_other() -> None:
    def starts(candidates: Candidates) -> int:
        search = Search("s", candidates, storage_url=None, strategy=Strategy.TWIN, seed=1, worthwhile=0.006)
        for number in range(1, len(POINTS)):
            proposal = search.ask()
            assert isinstance(proposal, Proposal), proposal
            paid = cost(proposal.point)
            if paid <= RIGHT.min() + math.log(1.05):
                return number
            search.tell(proposal.number, Finished(log_cost=paid, cost=math.exp(paid)))
        raise AssertionError("never found")

    assert starts(beside(WRONG, RIGHT)) < starts(among(WRONG))
