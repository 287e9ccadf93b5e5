"""A twin that sees a flag bind at another value than the engine: the same forecast moved along the flag."""

from __future__ import annotations

import math

import numpy as np
import pytest

from controlplane.domain.engines.engine import EngineConfig
from tuner.search.bends import bends
from tuner.search.surrogate import Array, Measured, believe, column_groups, encode
from tuner.space.space import Dimension, Point, Space

SEQS = (16, 24, 36, 54, 81, 122, 182)  # half as much again each
SPACE = Space(
    base=EngineConfig(),
    dimensions=(
        Dimension(flag="max-num-seqs", choices=SEQS),
        Dimension(flag="quantization", choices=(None, "fp8")),
        Dimension(flag="tensor-parallel-size", choices=(1, 2, 4)),
    ),
)
POINTS = list(SPACE.points())


def binding_below(seqs: float) -> Array:
    """Return a cost that falls with the number of sequences until that no longer binds."""
    return np.array([_cost(point, seqs) for point in POINTS])


def _cost(point: Point, seqs: float) -> float:
    bound = max(0.0, 0.4 * math.log(seqs / float(point["max-num-seqs"] or 1)))
    return bound - (0.3 if point["quantization"] else 0.0) + 0.3 * math.log2(float(point["tensor-parallel-size"] or 1))


def test_a_forecast_moved_along_a_flag_binds_half_as_much_sooner_or_later() -> None:
    later, sooner = [bend.of(binding_below(54)) for bend in bends(SPACE, POINTS, without=("tensor-parallel-size",))]
    inside = [row for row, point in enumerate(POINTS) if 16 < float(point["max-num-seqs"] or 0) < 182]
    assert sooner[inside] == pytest.approx(binding_below(81)[inside], abs=0.01)
    assert later[inside] == pytest.approx(binding_below(36)[inside], abs=0.01)


def test_a_neighbour_that_is_no_candidate_changes_nothing() -> None:
    few = [point for point in POINTS if point["max-num-seqs"] != 81]
    forecast = np.arange(float(len(few)))
    moved = bends(SPACE, few, without=("tensor-parallel-size",))[0].of(forecast)
    lonely = [row for row, point in enumerate(few) if point["max-num-seqs"] == 54]
    assert moved[lonely] == pytest.approx(forecast[lonely])


def test_what_costs_more_where_the_twin_saw_a_flag_cease_to_bind_makes_more_of_it_look_better() -> None:
    """The twin sees 54 sequences suffice and no gain in more, the engine gains up to 81."""
    truth, forecast = binding_below(81), binding_below(54)
    tried = [row for row, point in enumerate(POINTS) if point["tensor-parallel-size"] == 1 and _was_tried(point)]
    measured = Measured(tried, list(truth[tried]), [0.03] * len(tried))
    features, groups = encode(SPACE, POINTS), column_groups(SPACE)
    moved = [bend.of(forecast) for bend in bends(SPACE, POINTS, without=("tensor-parallel-size",))]
    here, more = (
        POINTS.index({"max-num-seqs": seqs, "quantization": "fp8", "tensor-parallel-size": 1}) for seqs in (54, 81)
    )
    stiff = believe(features, groups, forecast, measured).mean
    supple = believe(features, groups, forecast, measured, bent=moved).mean
    assert supple[more] - supple[here] < stiff[more] - stiff[here] - 0.01


def _was_tried(point: Point) -> bool:
    return (point["max-num-seqs"], point["quantization"]) in ((182, None), (54, None), (54, "fp8"))
