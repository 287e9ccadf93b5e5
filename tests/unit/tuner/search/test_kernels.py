"""Kernels no trial spoke for: a last look at them, and one at the best one's settings where they disappointed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.unit.tuner.search.test_search import POINTS, ROWS, among, cost
from tuner.search.advisor import advise
from tuner.search.candidates import Tried, point_key
from tuner.space.space import Point


def test_kernels_no_trial_ran_get_a_last_look_before_the_search_ends() -> None:
    """The twin sees all of fp8 beyond a cliff; it is the better half."""
    forecast = np.array([cost(point) + (4 if point["quantization"] else 0) for point in POINTS])
    plain = [row for row, point in enumerate(POINTS) if not point["quantization"]]
    known = [Tried(POINTS[row], log_cost=cost(POINTS[row])) for row in plain]
    advice = advise(among(forecast), known, worthwhile=0.5)
    assert advice.row is not None
    assert POINTS[advice.row]["quantization"] == "fp8"
    assert "last look" in advice.reason


@pytest.mark.parametrize("worthwhile", [0.9, 1e-6])
def test_kernels_that_disappointed_beyond_a_cliff_are_tried_at_the_best_ones_settings(worthwhile: float) -> None:
    """The twin sent fp8's one trial to 8192 tokens, which miss the limit; at the incumbent's 512 it is better."""
    cliff = np.array([_cliff(point) for point in POINTS])
    forecast = np.array([_cliff({**point, "max-num-batched-tokens": 512}) + _slope(point) for point in POINTS])
    known = [row for row, point in enumerate(POINTS) if not point["quantization"]]
    beyond = ROWS[point_key({"max-num-seqs": 128, "quantization": "fp8", "max-num-batched-tokens": 8192})]
    tried = [Tried(POINTS[row], log_cost=cliff[row]) for row in (*known, beyond)]
    advice = advise(among(forecast), tried, worthwhile=worthwhile)
    assert advice.row is not None
    assert "disappointed" in advice.reason
    assert cliff[advice.row] == cliff.min()


def test_kernels_that_did_as_the_twin_said_are_not_tried_again_for_that() -> None:
    forecast = np.array([cost(point) for point in POINTS])
    tried = [Tried(POINTS[row], log_cost=forecast[row]) for row in range(0, len(POINTS), 3)]
    assert "disappointed" not in advise(among(forecast), tried, worthwhile=1e-6).reason


def _cliff(point: Point) -> float:
    """Only the smallest token budget meets the limit; there fp8 is a third cheaper."""
    tokens = float(point["max-num-batched-tokens"] or 0)
    return (1.5 if tokens > 512 else 0.0) - (0.3 if point["quantization"] else 0.0) + 0.01 * _spare(point)


def _slope(point: Point) -> float:
    """The twin expects a little of more tokens."""
    return -0.05 * math.log2(float(point["max-num-batched-tokens"] or 1) / 512)


def _spare(point: Point) -> float:
    return abs(math.log2(float(point["max-num-seqs"] or 1) / 128))


def test_a_step_along_a_flag_comes_before_a_copy_of_what_was_tried() -> None:
    """The twin sees a cliff beyond 512 tokens where there is none: copies of the best one would not tell."""
    forecast = np.array([_tokens(point) * 0.2 for point in POINTS])
    tried = [row for row, point in enumerate(POINTS) if point["max-num-batched-tokens"] == 512]
    advice = advise(among(forecast), [Tried(POINTS[row], log_cost=0.0) for row in tried[:-1]], worthwhile=1e-6)
    assert advice.row is not None
    assert "one step beside" in advice.reason
    assert _tokens(POINTS[advice.row]) == min(_tokens(point) for point in POINTS if _tokens(point) > 0)


def test_a_step_that_was_taken_is_not_taken_again() -> None:
    forecast = np.array([_tokens(point) * 0.2 for point in POINTS])
    known = [Tried(point, log_cost=forecast[row]) for row, point in enumerate(POINTS) if _tokens(point) <= 1.0]
    advice = advise(among(forecast), [*known, Tried(POINTS[-1], log_cost=forecast[-1])], worthwhile=1e-6)
    assert "one step beside" not in advice.reason


def test_a_step_far_out_of_reach_is_not_taken() -> None:
    forecast = np.array([_tokens(point) * 3.0 for point in POINTS])
    tried = [Tried(POINTS[row], log_cost=forecast[row]) for row in range(0, len(POINTS), 2)]
    assert "one step beside" not in advise(among(forecast), tried, worthwhile=1e-6).reason


def _tokens(point: Point) -> float:
    return math.log2(float(point["max-num-batched-tokens"] or 512) / 512)
