"""The search with a twin that its trials refute: it goes on as one without, and does not end by that twin's word."""

from __future__ import annotations

import math

import numpy as np
import pytest

from controlplane.domain.studies.tuning_options import Strategy
from tests.unit.tuner.search.test_search import POINTS, among, cost
from tuner.search.advisor import trust
from tuner.search.alone import FIRST
from tuner.search.candidates import Tried
from tuner.search.doubting_sampler import OFF, REFUTED, off_by
from tuner.search.search import Finished, Proposal, Search
from tuner.search.surrogate import Array
from tuner.space.space import Point

RIGHT = np.array([cost(point) for point in POINTS])
WRONG = np.random.default_rng(5).permutation(RIGHT) * 3
"""Costs of other candidates, three times as far apart."""


def told(rows: range | list[int]) -> list[Tried]:
    return [Tried(POINTS[row], log_cost=cost(POINTS[row])) for row in rows]


def reasons(forecast: Array, starts: int, worthwhile: float = 0.01, known: int = 8) -> list[str]:
    """Return why each start was made, of a search that had `known` trials; the last is why it ended, if it did."""
    search = Search("s", among(forecast), storage_url=None, strategy=Strategy.TWIN, seed=1, worthwhile=worthwhile)
    for row in range(0, 7 * known, 7):
        search.tell(search.add(POINTS[row]), finished(POINTS[row]))
    found: list[str] = []
    for _ in range(starts):
        proposal = search.ask()
        if not isinstance(proposal, Proposal):
            return [*found, proposal]
        found.append(proposal.reason)
        search.tell(proposal.number, finished(proposal.point))
    return found


def finished(point: Point) -> Finished:
    return Finished(log_cost=cost(point), cost=math.exp(cost(point)))


def test_before_any_trial_a_forecast_is_trusted_and_without_one_there_is_nothing_to_trust() -> None:
    assert trust(among(WRONG), []) > REFUTED
    assert trust(among(), told([0, 1])) == 0.0


def test_trials_that_bear_the_forecast_out_raise_trust_and_others_refute_it() -> None:
    known = told(range(0, 56, 7))
    assert trust(among(RIGHT), known) > trust(among(RIGHT), [])
    assert trust(among(WRONG), known) < REFUTED


def test_a_forecast_that_the_trials_refute_is_not_gone_by() -> None:
    found = reasons(WRONG, 4)
    assert all(reason.startswith("the trials refute the twin: ") for reason in found)
    assert any("TPE" in reason for reason in found)


def test_a_few_trials_refute_nothing_as_only_draws_would_take_its_place() -> None:
    known = told(range(0, 7 * FIRST, 7))
    assert trust(among(WRONG * 2), known) < REFUTED
    assert "refute" not in reasons(WRONG * 2, 1, known=FIRST)[0]
    assert "refute" in reasons(WRONG * 2, 1, known=FIRST + 1)[0]


def test_a_forecast_that_is_right_is_never_called_refuted_and_may_end_the_search() -> None:
    found = reasons(RIGHT, len(POINTS))
    assert not any("refute" in reason for reason in found)
    assert "below the measurement noise" in found[-1]


def test_a_forecast_that_was_far_off_does_not_end_the_search() -> None:
    """Right but for the 8 bits, which it has far dearer than they are; nothing is worthwhile that is below 900 %."""
    bent = RIGHT + np.array([0.5 if point["quantization"] else 0.0 for point in POINTS])
    known = told(range(0, 56, 7))
    assert trust(among(bent), known) > REFUTED
    assert off_by(among(bent), known) > OFF
    found = reasons(bent, 40, worthwhile=9.0)
    assert any("far off" in reason for reason in found)
    assert not any(reason.startswith("expected improvement 0.0% is below") for reason in found)  # how it would end


def test_what_all_forecasts_have_in_common_is_no_error() -> None:
    assert off_by(among(RIGHT + 0.7), told([0, 9, 20, 31])) == pytest.approx(0.0)


def test_a_forecast_is_off_by_the_mean_square_of_what_sets_its_errors_apart() -> None:
    off = RIGHT.copy()
    off[9] += 0.3
    off[20] -= 40.0
    assert off_by(among(off), told([0, 9, 20, 31, 40])) == pytest.approx(math.sqrt((0.3**2 + 0.6**2) / 5))


def test_two_trials_do_not_tell_how_far_off_a_forecast_is_nor_do_dropped_ones() -> None:
    assert off_by(among(WRONG), told([0, 9])) == 0.0
    assert off_by(among(WRONG), [*told([0, 9]), Tried(POINTS[20], at_least=3.0)]) == 0.0
    assert off_by(among(), told([0, 9, 20, 31])) == 0.0
