"""Whole rollouts on simulated requests keep the declared error rates, however misses follow each other."""

from __future__ import annotations

import pytest

from benchmarks.canary_errors.__main__ import measure
from benchmarks.canary_errors.lines import Line
from benchmarks.canary_errors.traffic import CANARIES, Cell

EQUAL, WORSE = CANARIES[0], CANARIES[1]
ROLLOUTS = 100


def ours(cell: Cell) -> Line:
    return measure(cell, ["ours"], ROLLOUTS, seed=5)[0]


@pytest.mark.parametrize("burst", [1.0, 20.0])
def test_an_equal_canary_is_not_aborted_and_a_worse_one_not_promoted(burst: float) -> None:
    """Runs of 20 promoted a third of the bad ones when misses were taken for independent."""
    assert ours(Cell(EQUAL, 20, burst, 4)).aborted <= 0.05
    assert ours(Cell(WORSE, 20, burst, 4)).promoted <= 0.05


def test_with_enough_requests_an_equal_canary_is_promoted() -> None:
    assert ours(Cell(EQUAL, 20, 1.0, 2)).promoted >= 0.9
