"""Drift is found when lengths left what was measured, and not when they only vary."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.drift import false_alarms, found_after_s, lengths
from controlplane.domain.operations.drift import (
    BATCH_REQUESTS,
    BATCH_S,
    THRESHOLD,
    Length,
    Watch,
    added,
    is_whole,
    judged,
)

WAS = {Length.PROMPT: 1000.0, Length.OUTPUT: 200.0}


def batches(prompts: int, outputs: int, times: int) -> list[tuple[Length, ...]]:
    """What is found after each of some batches of equal lengths."""
    watch, found = Watch(), []
    for _ in range(times):
        whole = added(watch, {Length.PROMPT: [prompts] * 100, Length.OUTPUT: [outputs] * 100})
        watch, drifts = judged(whole, WAS)
        found.append(tuple(each.length for each in drifts))
    return found


def test_twice_as_long_is_found_and_so_is_half_as_long() -> None:
    assert batches(2000, 200, 1) == [(Length.PROMPT,)]
    assert batches(1000, 100, 1) == [(Length.OUTPUT,)]


def test_a_change_no_fleet_notices_is_never_found() -> None:
    assert not any(batches(1190, 170, 500))


def test_a_length_nobody_measured_is_not_watched() -> None:
    watch = added(Watch(), {Length.PROMPT: [9000] * 100, Length.OUTPUT: [200] * 100})
    assert judged(watch, {Length.OUTPUT: 200.0})[1] == ()


def test_a_batch_is_whole_after_its_time_with_its_requests() -> None:
    full = {each: [10] * BATCH_REQUESTS for each in Length}
    assert is_whole(added(Watch(), full), BATCH_S)
    assert not is_whole(added(Watch(), full), BATCH_S - 1)
    assert not is_whole(added(Watch(), {Length.PROMPT: [10] * BATCH_REQUESTS}), BATCH_S)
    assert not is_whole(Watch(), BATCH_S)


@settings(max_examples=40, deadline=None)
@given(parts=st.lists(st.lists(st.integers(1, 9000), max_size=30), min_size=1, max_size=6))
def test_a_batch_is_the_same_in_one_piece_or_in_several(parts: list[list[int]]) -> None:
    pieces = Watch()
    for part in parts:
        pieces = added(pieces, {each: part for each in Length})
    whole = added(Watch(), {each: [n for part in parts for n in part] for each in Length})
    first, second = (judged(each, WAS)[0].sums[Length.PROMPT] for each in (pieces, whole))
    assert first.up == pytest.approx(second.up)
    assert first.down == pytest.approx(second.down)
    assert first.count == 0


def test_traffic_that_stays_alarms_nobody_and_doubled_prompts_are_found_within_half_an_hour() -> None:
    """Two simulated days and one change; `benchmarks.drift` simulates months."""
    assert false_alarms(0.5, seconds=2 * 86_400, seed=5) == 0
    took_s = found_after_s(2.0, times=2.0, seed=5)
    assert took_s is not None
    assert took_s <= 1800


def test_simulated_lengths_have_their_mean_and_come_in_sessions() -> None:
    import numpy as np

    drawn = lengths(200_000, 1000.0, np.random.default_rng(1)).astype(float)
    assert drawn.mean() == pytest.approx(1000, rel=0.05)
    logs = np.log(drawn)
    assert np.corrcoef(logs[:-1], logs[1:])[0, 1] == pytest.approx(0.8 * 2 / 3, abs=0.05)
    assert THRESHOLD > 0
