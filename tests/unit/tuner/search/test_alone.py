"""The search without a twin: whose turn it is, what it learns of flags, what is looked at when nothing is expected."""

from __future__ import annotations

import math

import numpy as np
import pytest

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.studies.tuning_options import Strategy
from tuner.search.advisor import advise
from tuner.search.alone import FIRST, Turn, unseen_value, whose_turn
from tuner.search.candidates import Candidates, Tried, candidates, point_key
from tuner.search.search import Finished, Proposal, Search
from tuner.search.surrogate import Measured, column_groups, relevances
from tuner.space.space import Dimension, Point, Space

SPACE = Space(
    base=EngineConfig(),
    dimensions=(
        Dimension(flag="max-num-seqs", choices=(16, 32, 64, 128, 256, 512)),
        Dimension(flag="quantization", choices=(None, "fp8")),
        Dimension(flag="gpu-memory-utilization", choices=(0.85, 0.92, 0.95)),
    ),
)
POINTS = list(SPACE.points())
AMONG: Candidates = candidates(SPACE, POINTS, outlook=None, room_gib=None)
OPEN = np.ones(len(POINTS), dtype=np.bool_)


def costs(row: int) -> float:
    """Only the precision matters."""
    return -1.0 if POINTS[row]["quantization"] else 0.0


def a_search(strategy: Strategy, among: Candidates = AMONG, seed: int = 3) -> Search:
    """A search whose baseline was measured."""
    found = Search("alone", among, storage_url=None, strategy=strategy, seed=seed, worthwhile=0.01)
    found.tell(found.add(POINTS[0]), measured(0))
    return found


def measured(row: int) -> Finished:
    return Finished(log_cost=costs(row), cost=math.exp(costs(row)))


def asked(search: Search, starts: int) -> list[Proposal]:
    """Ask and tell so many starts."""
    found = []
    for _ in range(starts):
        proposal = search.ask()
        assert isinstance(proposal, Proposal)
        search.tell(proposal.number, measured(AMONG.row_of[point_key(proposal.point)]))
        found.append(proposal)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_the_first_starts_are_those_of_random_search(seed: int) -> None:
    ours, chance = (asked(a_search(strategy, seed=seed), FIRST) for strategy in (Strategy.TWIN, Strategy.RANDOM))
    assert [each.point for each in ours] == [each.point for each in chance]
    assert "at random" in ours[0].reason


def test_what_is_drawn_leaves_out_what_bursts_for_certain() -> None:
    rooms = np.array([1.0 if point["gpu-memory-utilization"] == 0.85 else 5.0 for point in POINTS])
    tight = candidates(SPACE, POINTS, outlook=None, room_gib=rooms)
    search = Search("tight", tight, storage_url=None, strategy=Strategy.TWIN, seed=3, worthwhile=0.01)
    burst = next(point for point in POINTS if point["gpu-memory-utilization"] == 0.85)
    search.tell(search.add(burst), Finished(ran_out_of_memory=True))
    assert all(each.point["gpu-memory-utilization"] != 0.85 for each in asked(search, FIRST))


def test_with_an_earlier_study_nothing_is_drawn_at_random() -> None:
    known = AMONG._replace(earlier=[Tried(POINTS[7], log_cost=-1.0)])
    assert "at random" not in asked(a_search(Strategy.TWIN, known), 1)[0].reason


def test_then_the_model_chooses_and_later_every_other_start_is_tpes() -> None:
    turns = [whose_turn(begun, knows_earlier=False) for begun in range(1, 14)]
    assert turns == [Turn.CHANCE] * 4 + [Turn.MODEL] * 5 + [Turn.TPE, Turn.MODEL, Turn.TPE, Turn.MODEL]


def test_it_ends_only_when_everything_was_tried() -> None:
    search = a_search(Strategy.TWIN)
    found = asked(search, len(POINTS) - 1)
    assert len({point_key(each.point) for each in found}) == len(POINTS) - 1
    assert search.ask() == "every feasible candidate was tried"


def test_the_model_chooses_the_best_of_what_was_drawn_not_of_everything() -> None:
    known = [Tried(POINTS[row], log_cost=costs(row)) for row in (0, 4, 9, 20, 30)]
    only = np.zeros(len(POINTS), dtype=np.bool_)
    only[[1, 25]] = True
    everywhere, among_two = (advise(AMONG, known, worthwhile=1e-9, only=each) for each in (None, only))
    assert everywhere.row not in (1, 25)
    assert among_two.row in (1, 25)


def test_a_flag_that_makes_no_difference_is_found_to_matter_less() -> None:
    rows = [0, 3, 8, 14, 19, 25, 30, 33]
    seen = Measured(rows, [costs(row) for row in rows], [0.03] * len(rows))
    sequences, precision, memory = relevances(AMONG.features, column_groups(SPACE), seen)
    assert precision == 1.0
    assert sequences < precision
    assert memory < precision


def test_while_nothing_is_measured_all_flags_matter_alike() -> None:
    assert set(relevances(AMONG.features, column_groups(SPACE), Measured([], [], []))) == {1.0}


def test_before_it_ends_it_looks_in_the_middle_of_what_nothing_good_was_tried_with() -> None:
    best: Point = {"max-num-seqs": 16, "quantization": "fp8", "gpu-memory-utilization": 0.92}
    others: list[Point] = [{**best, "max-num-seqs": 512}, {**best, "gpu-memory-utilization": 0.85}]
    bad = Tried({**best, "max-num-seqs": 64, "quantization": None}, log_cost=2.0)
    tried = [Tried(best, log_cost=0.0), *(Tried(point, log_cost=0.1) for point in others), bad]
    found = unseen_value(AMONG, OPEN, tried, (1.0, 1.0, 0.1))
    assert found is not None
    assert found.row is not None
    assert POINTS[found.row] == {**best, "max-num-seqs": 64}


@pytest.mark.parametrize("tried", [[], [Tried(POINTS[0], at_least=0.0)]])
def test_without_anything_measured_there_is_no_last_look(tried: list[Tried]) -> None:
    assert unseen_value(AMONG, OPEN, tried, (1.0, 1.0, 1.0)) is None
