"""Axes that can be read, tables that fit, and long studies that can be searched."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.base import RevisionId
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.studies.capacity import Capacity, FleetSize
from controlplane.domain.studies.study import TrialState
from dashboards.charts.live import where_it_matters
from dashboards.charts.study import steps_of_one_two_five
from dashboards.trial_order import TrialOrder, arranged
from dashboards.views.rollout import changes
from tests.builders_serving import a_revision, a_rollout, a_trial


@given(lowest=st.floats(0.01, 1e5), factor=st.floats(1, 1e4))
def test_a_logarithmic_axis_has_labels_at_both_ends_of_what_it_shows(lowest: float, factor: float) -> None:
    highest = lowest * factor
    ticks = steps_of_one_two_five(lowest, highest)
    assert ticks == sorted(ticks)
    assert ticks[0] <= lowest * (1 + 1e-9)
    assert ticks[-1] >= highest * (1 - 1e-9)
    assert all(b / a < 2.6 for a, b in pairwise(ticks))


def test_the_axis_of_latencies_beyond_six_times_the_limit_is_labelled_between_the_decades() -> None:
    assert steps_of_one_two_five(150, 4000) == [100, 200, 500, 1000, 2000, 5000]


@given(percents=st.lists(st.floats(0, 100), max_size=20))
def test_attainment_is_shown_from_below_the_lowest_to_above_100(percents: list[float]) -> None:
    low, high = where_it_matters(percents)
    assert 0 <= low <= min(percents, default=100) + 1e-9
    assert high > 100
    assert math.isclose(100 - low, min(100, max(1, 1.25 * (100 - min(percents, default=100)))), abs_tol=1e-9)


def test_the_fall_that_breaks_a_p99_takes_most_of_the_picture() -> None:
    low, high = where_it_matters([99.9, 98.0])
    assert (99.9 - 98.0) / (high - low) > 0.7


TRIALS = [
    a_trial(number=0, config=EngineConfig(flags={"max-num-seqs": 64}), capacity=Capacity(rps=3, low_rps=2, high_rps=4)),
    a_trial(number=1, config=EngineConfig(flags={"quantization": "fp8"}), state=TrialState.INFEASIBLE, reason="no KV"),
    a_trial(
        number=2,
        config=EngineConfig(flags={"quantization": "fp8", "max-num-seqs": 64}),
        capacity=Capacity(rps=9, low_rps=8, high_rps=10),
    ),
]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", [0, 1, 2]), ("FP8", [1, 2]), ("fp8 max-num-seqs=64", [2]), ("infeasible", [1]), ("no kv", [1]), ("awq", [])],
)
def test_trials_are_found_by_their_words(text: str, numbers: list[int]) -> None:
    assert [trial.number for trial in arranged(TRIALS, TrialOrder.TRIED, text)] == numbers


def test_trials_without_a_number_come_last() -> None:
    assert [trial.number for trial in arranged(TRIALS, TrialOrder.CAPACITY, "")] == [2, 0, 1]
    costs = {0: FleetSize(replicas=1, gpus=1, usd_per_hour=3.5), 2: FleetSize(replicas=1, gpus=2, usd_per_hour=7)}
    priced = [trial.evolve(fleet=costs.get(trial.number)) for trial in reversed(TRIALS)]
    assert [trial.number for trial in arranged(priced, TrialOrder.COST, "")] == [0, 2, 1]


def test_a_rollout_page_says_what_the_canary_has_different() -> None:
    stable = a_revision(EngineConfig(flags={"max-num-seqs": 256}))
    canary = a_revision(EngineConfig(flags={"max-num-seqs": 128}))
    rollout = a_rollout(stable=stable.revision_id, canary=canary.revision_id)
    assert changes(rollout, [stable, canary]) == ["max-num-seqs: 256 → 128"]
    assert changes(rollout.evolve(stable=RevisionId("rev-gone")), [stable, canary]) == []
