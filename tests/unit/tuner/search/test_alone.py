"""The search without a twin: where its first starts lie, what it learns of flags, what it looks at before it ends."""

from __future__ import annotations

import numpy as np
import pytest

from controlplane.domain.engines.engine import EngineConfig
from tuner.search.advisor import advise
from tuner.search.alone import FIRST, spread_row, unseen_value
from tuner.search.candidates import Candidates, Tried, candidates
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


def test_the_first_starts_are_spread_over_every_flag() -> None:
    rows = [spread_row(AMONG, OPEN, begun, seed=3) for begun in range(1, FIRST + 1)]
    chosen = [POINTS[row] for row in rows if row is not None]
    assert len(chosen) == FIRST
    assert {point["quantization"] for point in chosen} == {None, "fp8"}
    assert len({point["max-num-seqs"] for point in chosen}) >= FIRST - 1
    assert len({point["gpu-memory-utilization"] for point in chosen}) > 1
    assert spread_row(AMONG, OPEN, FIRST + 1, seed=3) is None


def test_another_seed_spreads_them_elsewhere_and_the_same_does_not() -> None:
    def rows(seed: int) -> list[int | None]:
        return [spread_row(AMONG, OPEN, begun, seed=seed) for begun in range(1, FIRST + 1)]

    assert rows(3) == rows(3)
    assert len({tuple(rows(seed)) for seed in range(6)}) > 1


def test_a_flag_that_makes_no_difference_is_found_to_matter_less() -> None:
    rows = [0, 3, 8, 14, 19, 25, 30, 33]
    measured = Measured(rows, [costs(row) for row in rows], [0.03] * len(rows))
    sequences, precision, memory = relevances(AMONG.features, column_groups(SPACE), measured)
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


def test_the_search_begins_with_the_spread_and_says_so() -> None:
    advice = advise(AMONG, [Tried(POINTS[0], log_cost=0.0)], worthwhile=0.01, seed=3)
    assert advice.row == spread_row(AMONG, OPEN & (np.arange(len(POINTS)) != 0), 1, seed=3)
    assert "spread" in advice.reason


def test_the_ends_of_a_grid_are_half_as_likely_as_what_lies_between() -> None:
    """Engines are seldom good at the ends: of four starts over six values, none or one lies at each end."""
    ends = [
        POINTS[row]["max-num-seqs"] in (16, 512)
        for seed in range(40)
        for begun in range(1, FIRST + 1)
        if (row := spread_row(AMONG, OPEN, begun, seed=seed)) is not None
    ]
    assert len(ends) == 40 * FIRST
    assert 0.1 < np.mean(ends) < 0.27  # a fifth; as wide as the others they were a third
