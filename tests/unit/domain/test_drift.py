"""Drift is found when lengths left what was measured, and not when they only vary."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.drift import CHANGES, MEASURED, false_alarms, found_after_s, lengths
from controlplane.domain.operations.drift import (
    BATCH_REQUESTS,
    BATCH_S,
    THRESHOLD,
    Drift,
    Signal,
    Watch,
    added,
    is_whole,
    judged,
    threshold,
)

LENGTHS = (Signal.PROMPT, Signal.OUTPUT)
WAS = {Signal.PROMPT: 1000.0, Signal.OUTPUT: 200.0}


def batches(prompts: int, outputs: int, times: int) -> list[tuple[Signal, ...]]:
    """What is found after each of some batches of equal lengths."""
    watch, found = Watch(), []
    for _ in range(times):
        whole = added(watch, {Signal.PROMPT: [prompts] * 100, Signal.OUTPUT: [outputs] * 100})
        watch, drifts = judged(whole, WAS, BATCH_S)
        found.append(tuple(each.signal for each in drifts))
    return found


def test_twice_as_long_is_found_and_so_is_half_as_long() -> None:
    assert batches(2000, 200, 1) == [(Signal.PROMPT,)]
    assert batches(1000, 100, 1) == [(Signal.OUTPUT,)]


def test_a_change_no_fleet_notices_is_never_found() -> None:
    assert not any(batches(1190, 170, 500))


def test_a_length_nobody_measured_is_not_watched() -> None:
    watch = added(Watch(), {Signal.PROMPT: [9000] * 100, Signal.OUTPUT: [200] * 100})
    assert judged(watch, {Signal.OUTPUT: 200.0}, BATCH_S)[1] == ()


def test_a_batch_is_whole_after_its_time_with_its_requests() -> None:
    full = {each: [10] * BATCH_REQUESTS for each in LENGTHS}
    assert is_whole(added(Watch(), full), BATCH_S)
    assert not is_whole(added(Watch(), full), BATCH_S - 1)
    assert not is_whole(added(Watch(), {Signal.PROMPT: [10] * BATCH_REQUESTS}), BATCH_S)
    assert not is_whole(Watch(), BATCH_S)


@settings(max_examples=40, deadline=None)
@given(parts=st.lists(st.lists(st.integers(1, 9000), max_size=30), min_size=1, max_size=6))
def test_a_batch_is_the_same_in_one_piece_or_in_several(parts: list[list[int]]) -> None:
    pieces = Watch()
    for part in parts:
        pieces = added(pieces, {each: part for each in LENGTHS})
    whole = added(Watch(), {each: [n for part in parts for n in part] for each in LENGTHS})
    first, second = (judged(each, WAS, BATCH_S)[0].sums[Signal.PROMPT] for each in (pieces, whole))
    assert first.up == pytest.approx(second.up)
    assert first.down == pytest.approx(second.down)
    assert first.count == 0


@pytest.mark.parametrize("signal", Signal)
def test_longer_batches_need_less_to_alarm_down_to_a_least(signal: Signal) -> None:
    bounds = [threshold(signal, seconds) for seconds in (1, 60, 200, 500, 9000)]
    assert bounds[0] == bounds[1] == THRESHOLD
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[3] == bounds[4] > THRESHOLD / 2
    assert threshold(Signal.MISSES, 500) >= threshold(signal, 500)


def test_at_few_requests_doubled_prompts_are_found_within_half_an_hour_as_a_rule() -> None:
    took = sorted(found_after_s(0.2, now=CHANGES["prompts twice as long"], seed=seed) or 1e9 for seed in range(70, 85))
    assert took[len(took) // 2] <= 1800


def test_traffic_that_stays_alarms_nobody_and_doubled_prompts_are_found_within_half_an_hour() -> None:
    """Two simulated days and one change; `benchmarks.drift` simulates months."""
    assert false_alarms(0.5, seconds=2 * 86_400, seed=5) == []
    took_s = found_after_s(2.0, now=CHANGES["prompts twice as long"], seed=5)
    assert took_s is not None
    assert took_s <= 1800


def test_simulated_lengths_have_their_mean_and_come_in_sessions() -> None:
    import numpy as np

    drawn = lengths(200_000, 1000.0, np.random.default_rng(1)).astype(float)
    assert drawn.mean() == pytest.approx(1000, rel=0.05)
    logs = np.log(drawn)
    assert np.corrcoef(logs[:-1], logs[1:])[0, 1] == pytest.approx(0.8 * 2 / 3, abs=0.05)
    assert THRESHOLD > 0


@pytest.mark.parametrize("name", CHANGES)
def test_every_kind_of_change_is_found_and_by_its_own_signal(name: str) -> None:
    took_s = found_after_s(2.0, now=CHANGES[name], seed=3)
    assert took_s is not None
    assert took_s <= 1800
    assert CHANGES[name] != MEASURED


def one(signal: Signal, values: list[float], was: float, times: int = 20) -> bool:
    """Say whether batches of these values are found to be no longer what was."""
    watch = Watch()
    for _ in range(times):
        watch, drifts = judged(added(watch, {signal: values}), {signal: was}, BATCH_S)
        if drifts:
            return True
    return False


def test_more_that_is_shared_is_found_and_so_is_less() -> None:
    assert one(Signal.PREFIX, [0.6] * 100, 0.2)
    assert one(Signal.PREFIX, [0.0] * 100, 0.4)
    assert not one(Signal.PREFIX, [0.3] * 100, 0.2, times=500)


def test_gaps_that_are_all_equal_and_gaps_in_bursts_are_found() -> None:
    assert one(Signal.BURSTS, [1.0, 1.01] * 50, 1.0)
    assert one(Signal.BURSTS, [0.001] * 90 + [5.0] * 10, 1.0)


def test_fewer_misses_than_may_be_are_no_drift_and_many_more_are() -> None:
    assert not one(Signal.MISSES, [0.0] * 100, 0.05, times=500)
    assert not one(Signal.MISSES, [1.0] * 9 + [0.0] * 91, 0.05, times=500)
    assert one(Signal.MISSES, [1.0] * 40 + [0.0] * 60, 0.05)


def test_a_drift_says_what_it_was_and_what_it_is() -> None:
    said = {each: str(Drift(signal=each, was=0.05, now=0.25, cv=1)) for each in Signal}
    assert said[Signal.PREFIX] == "25% of the prompts are shared prefixes, measured was 5%"
    assert said[Signal.MISSES] == "25.0% miss a limit at a load that was measured to be sustained, 5.0% may"
    assert "squared cv of 0.25" in said[Signal.BURSTS]
