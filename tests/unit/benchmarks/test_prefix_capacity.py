"""The prefix benchmark: its ladder brackets what it should, the twin's hits are those of the tokens that are sent."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.prefix_capacity.cells import DENSE, Cell, Level, cells_of, predicted_rps, requests_at
from benchmarks.prefix_capacity.climb import STEP, bracket, found, is_bracketed, next_rate
from benchmarks.prefix_capacity.emulated import prompts_of, run_level
from benchmarks.prefix_capacity.measured import measure
from controlplane.emulator.tokens import block_hashes
from tuner.twin.simulate import simulate

HALF = Cell(DENSE, True, "50")


def engine_of(capacity_rps: float) -> Callable[[float], Level]:
    """An engine whose latency grows with the fourth power of the rate and meets its limit at the capacity."""
    return lambda rate: Level(rate, rate <= capacity_rps, (rate / capacity_rps) ** 4)


def climbed(capacity_rps: float, expected_rps: float, levels: int) -> list[Level]:
    run, done = engine_of(capacity_rps), list[Level]()
    for _ in range(levels):
        done.append(run(next_rate(done, expected_rps)))
    return done


def test_the_first_two_rates_decide_whether_the_prediction_is_within_the_target() -> None:
    target = [pytest.approx(10 / STEP), pytest.approx(10 * STEP)]
    for capacity_rps, within in ((10.0, True), (8.0, False), (12.0, False)):
        ends = [level.rate_rps if level else None for level in bracket(climbed(capacity_rps, 10.0, 2))]
        assert (ends == target) is within


@pytest.mark.parametrize("capacity_rps", [4.0, 9.9, 10.1, 19.0])
def test_a_capacity_far_from_what_was_expected_is_found_all_the_same(capacity_rps: float) -> None:
    levels = climbed(capacity_rps, 10.0, 12)
    low, high = bracket(levels)
    assert low is not None
    assert high is not None
    assert low.rate_rps <= capacity_rps < high.rate_rps
    assert found(levels) == pytest.approx(capacity_rps, rel=1e-6)


def test_a_level_whose_generator_was_late_is_no_end_of_a_bracket() -> None:
    late = Level(9.0, False, 3.0, valid=False)
    assert bracket([late]) == (None, None)
    assert next_rate([late], 10.0) == next_rate([], 10.0)


def test_nothing_found_is_no_capacity() -> None:
    assert found([Level(5.0, False, 9.0)]) == 0.0
    assert found([Level(5.0, True, 0.5)]) == 5.0


def test_every_cell_is_bracketed_before_any_is_narrowed_and_nothing_runs_beyond_the_time() -> None:
    cells, ran, clock = cells_of(DENSE, caching=True), list[str](), [0.0]

    def level_at(cell: Cell, rate: float) -> Level:
        ran.append(cell.share)
        clock[0] += 20
        return engine_of(10.0)(rate)

    levels = measure(dict.fromkeys(cells, 10.0), level_at, limit_s=170.0, now=lambda: clock[0])
    assert ran == ["00", "50", "90", "00", "50", "90", "00", "50"]
    assert all(is_bracketed(each) for each in levels.values())


@pytest.mark.parametrize("share", ["50", "90"])
def test_the_twin_finds_as_many_tokens_as_the_hashes_of_what_is_sent_say(share: str) -> None:
    cell = HALF._replace(share=share)
    requests = requests_at(cell.profile, 3.0)
    seen, hits = set[int](), 0
    for tokens in prompts_of(requests):
        names = block_hashes(tokens, 16)
        hits += 16 * sum(name in seen for name in names)
        seen.update(names)
    result = simulate(cell.setup, requests)
    assert result.prefix_hits == pytest.approx(hits, rel=0.02)
    assert hits / result.prefix_queries == pytest.approx(int(share) / 100, abs=0.04)


def test_a_prediction_is_the_emulated_engines_capacity_and_text_in_common_counts_only_where_it_is_cached() -> None:
    predicted = predicted_rps(HALF)
    assert run_level(HALF, predicted / STEP).passed
    assert not run_level(HALF, predicted * STEP).passed
    uncached = predicted_rps(HALF._replace(caching=False))
    assert run_level(HALF._replace(caching=False), uncached / STEP).passed
    assert predicted > uncached * STEP
