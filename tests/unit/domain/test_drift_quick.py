"""Lengths that double are found request by request, and sooner than by batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import pytest

from controlplane.domain.operations.drift import Drift, Signal, Watch, followed, judged
from controlplane.domain.operations.drift_quick import (
    GAP_S,
    LEARNED_REQUESTS,
    THRESHOLD,
    Length,
    Quick,
    seen,
)

WAS = 1000.0
SIGMA = 0.9
UNSEEN = Quick()
WAS_LOG = math.log(WAS) - SIGMA**2 / 2


def drawn(count: int, times: float, chance: Random) -> list[Length]:
    """Independent lognormal lengths whose mean is so many times what was measured."""
    return [Length(max(1, round(times * math.exp(chance.gauss(WAS_LOG, SIGMA))))) for _ in range(count)]


def in_sessions(count: int, size: int, chance: Random, *, named: bool) -> list[Length]:
    """Lengths of which nine tenths of the variance are common to the requests of a session."""
    found: list[Length] = []
    for _ in range(count // size):
        common, logs = chance.gauss(0, 1), list[float]()
        for before in range(size):
            own = WAS_LOG + SIGMA * (math.sqrt(0.9) * common + math.sqrt(0.1) * chance.gauss(0, 1))
            said = (before, math.fsum(logs) / before) if named and before else (0, 0.0)
            found.append(Length(max(1, round(math.exp(own))), *said))
            logs.append(own)
    return found


def after(lengths: Sequence[Length], quick: Quick = UNSEEN, gap_s: float = GAP_S) -> Quick:
    for begin in range(0, len(lengths), 20):
        part = lengths[begin : begin + 20]
        quick = seen(quick, part, WAS, gap_s * len(part))
    return quick


def found_at(quick: Quick, lengths: Sequence[Length]) -> int | None:
    for index, each in enumerate(lengths):
        quick = seen(quick, [each], WAS, GAP_S)
        if quick.changed is not None:
            return index + 1
    return None


@pytest.fixture(scope="module")
def learned() -> Quick:
    return after(drawn(40_000, 1, Random(1)))


def test_traffic_as_it_was_measured_is_no_change(learned: Quick) -> None:
    assert found_at(learned, drawn(10_000, 1, Random(2))) is None


@pytest.mark.parametrize("times", [2.0, 0.5])
@pytest.mark.parametrize("seed", [3, 4, 5])
def test_twice_and_half_as_long_are_found_within_two_batches(learned: Quick, times: float, seed: int) -> None:
    at = found_at(learned, drawn(400, times, Random(seed)))
    assert at is not None
    assert at < 200


def test_a_change_no_fleet_notices_is_not_found_in_half_a_day_of_requests(learned: Quick) -> None:
    assert found_at(learned, drawn(8000, 1.15, Random(6))) is None


def test_what_was_found_is_the_mean_since_it_changed_and_not_of_a_batch_that_holds_both(learned: Quick) -> None:
    quick = seen(learned, drawn(150, 2, Random(7)), WAS, 150 * GAP_S)
    assert quick.changed is not None
    assert quick.changed.requests <= 160
    assert quick.changed.mean == pytest.approx(2 * WAS, rel=0.25)
    assert quick.changed.cv == pytest.approx(1.1, rel=0.4)


def test_nothing_is_summed_up_until_the_shape_is_known() -> None:
    quick = after(drawn(LEARNED_REQUESTS, 4, Random(8)))
    assert quick.up.value == 0
    assert after(drawn(400, 4, Random(9)), quick).changed is not None


def test_a_shape_is_of_whatever_mean_so_learning_forgets_nothing_that_was_measured() -> None:
    shapes = [after(drawn(10_000, times, Random(10))).shape for times in (1, 7)]
    assert shapes[0].was_log(WAS) == pytest.approx(WAS_LOG, abs=0.05)
    assert shapes[1].was_log(WAS) == pytest.approx(shapes[0].was_log(WAS), abs=0.001)
    assert shapes[1].variance == pytest.approx(SIGMA**2, rel=0.05)


def test_lengths_that_do_not_vary_have_no_shape() -> None:
    assert not after([Length(1000)] * 3000).shape.is_known


def test_a_length_nobody_measured_is_learned_and_not_judged() -> None:
    quick = seen(Quick(), drawn(5000, 9, Random(11)), None, 60)
    quick = seen(quick, drawn(5000, 9, Random(12)), None, 60)
    assert quick.shape.is_known
    assert quick.changed is None


def test_sums_stray_further_where_sessions_are_not_named_and_named_ones_are_as_good_as_independent() -> None:
    loose, named = (after(in_sessions(40_000, 4, Random(13), named=each)).shape for each in (False, True))
    assert loose.strays == pytest.approx(1 + 0.9 * 3, rel=0.3)
    assert named.strays < 1.4
    assert named.alike == pytest.approx(0.9, abs=0.05)
    assert loose.alike == 0


def test_a_further_request_of_a_session_says_less(learned: Quick) -> None:
    named = after(in_sessions(8000, 4, Random(14), named=True))
    long = Length(round(math.exp(WAS_LOG + 3 * SIGMA)))
    alike = long._replace(before=3, before_log=math.log(long.tokens))
    first, later = (seen(named.begun, [each], WAS, GAP_S).up.value for each in (long, alike))
    assert 0 <= later < first / 3


def test_where_more_requests_come_in_a_month_more_is_asked_of_them() -> None:
    slow, fast = (after(drawn(2000, 1, Random(15)), gap_s=each).shape for each in (10 * GAP_S, GAP_S / 10))
    assert slow.threshold == THRESHOLD
    assert fast.threshold == pytest.approx(THRESHOLD + math.log(10), abs=0.01)


def test_a_look_without_requests_counts_for_the_time_between_them() -> None:
    quick = Quick()
    for _ in range(1000):
        quick = seen(seen(quick, [], WAS, 3.0), drawn(1, 1, Random(16)), WAS, 1.0)
    assert quick.shape.gap_s == pytest.approx(4.0)


def test_a_watch_that_found_it_says_so_before_its_batch_is_whole_and_begins_anew_with_the_shape(learned: Quick) -> None:
    was = {Signal.PROMPT: WAS}
    watch = followed(Watch(quick={Signal.PROMPT: learned}), {Signal.PROMPT: drawn(90, 3, Random(3))}, was, 450)
    assert watch.is_sudden
    [found] = judged(watch, was, 450)[1]
    assert isinstance(found, Drift)
    assert found.now == pytest.approx(3 * WAS, rel=0.3)
    anew = watch.anew()
    assert not anew.is_sudden
    assert anew.quick[Signal.PROMPT].shape == watch.quick[Signal.PROMPT].shape
    assert Watch.model_validate_json(watch.model_dump_json()) == watch
