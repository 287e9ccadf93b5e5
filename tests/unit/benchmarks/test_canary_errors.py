"""The simulated rollouts decide as the judge does, and count what a plain loop would count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks.canary_errors import bounds
from benchmarks.canary_errors.__main__ import some_of
from benchmarks.canary_errors.bounds import Many
from benchmarks.canary_errors.independent import beyond_margin
from benchmarks.canary_errors.rules import OPTIONS, RULES
from benchmarks.canary_errors.sessions import LENGTH, SIDE, heavy_user, sessions_that_miss
from benchmarks.canary_errors.traffic import CANARIES, TIMES, Cell, Step, chain, draw
from controlplane.domain.rollouts.analysis import Counts
from controlplane.domain.rollouts.anytime import difference_bounds
from controlplane.domain.rollouts.bursts import Runs, expected_end, series
from controlplane.domain.rollouts.clusters import Clusters
from controlplane.domain.rollouts.comparing import Control, Evidence, compare
from controlplane.domain.rollouts.pairs import Difference, Side
from controlplane.domain.slo import LatencyMetric, LatencySlo, SloSet

SLOS = SloSet(latency=(LatencySlo(metric=LatencyMetric.TTFT, percentile=95, limit_ms=500),), target_qps=1)
NS = np.array([0, 1, 5, 40, 300, 2000])


def drawn(ratio: float, burst: float, seed: int = 3) -> Many:
    return chain(NS, ratio, burst, 20, np.random.default_rng(seed))


def one(many: Many, row: int, at: int) -> Counts:
    n, hits, runs, open_ = (int(np.broadcast_to(part, many.hits.shape)[row, at]) for part in many)
    return Counts(requests=n, slo_misses=hits, errors=0, miss_runs=Runs(runs=runs, open=open_))


@pytest.mark.parametrize("burst", [1.0, 20.0])
@pytest.mark.parametrize("difference", [0.0, 0.05])
def test_bounds_on_arrays_are_those_of_the_judge(burst: float, difference: float) -> None:
    mine, others = drawn(0.08, burst), drawn(0.03, burst, seed=4)
    end = bounds.expected_end([others], 2.0)
    found = bounds.Difference(mine, others, (end, end), others)
    many = found.least_at(difference)
    for row in range(20):
        for at in range(1, len(NS)):
            seen, expected = (
                series(c.requests, c.slo_misses, c.miss_runs) for c in (one(part, row, at) for part in (mine, others))
            )
            floor = expected_end([expected], 2.0)
            assert end[row, at] == pytest.approx(floor)
            single = Difference(Side(seen, floor, expected), Side(expected, floor, expected))
            assert single.estimate == pytest.approx(found.estimate[row, at])
            assert single.least_at(difference) == pytest.approx(many[row, at], abs=0.02)


def test_a_simulated_look_says_what_the_judge_says() -> None:
    step: Step = draw(Cell(CANARIES[2], 20, 5.0, 4), 20, 8, np.random.default_rng(1))
    decided = RULES["ours"](step, [])
    assert step.replayed is not None
    assert step.stable is not None
    for row, moment in enumerate(decided.at.astype(int)):
        evidence = Evidence(
            canary=one(step.users, row, moment),
            replayed=one(step.replayed, row, moment),
            stable=one(step.stable, row, moment),
            before=one(step.before, row, 0),
            control=Control.CONCURRENT,
        )
        found = [c for c in compare(evidence, SLOS, OPTIONS) if c.name == "slo_miss_ratio"]
        failed = any(c.certainly_worse for c in found)
        assert failed == bool(decided.known[row] and not decided.passed[row])
        assert (any(c.high <= c.margin for c in found) and not failed) == bool(decided.passed[row])


def test_the_rule_of_before_is_the_one_of_independent_misses() -> None:
    mine, others = drawn(0.15, 1.0), drawn(0.03, 1.0, seed=4)
    above = beyond_margin(mine, others, 0.05, 0.05, above=True)
    below = beyond_margin(mine, others, 0.05, 0.05, above=False)
    for row in range(20):
        for at in range(1, len(NS)):
            a, b = one(mine, row, at), one(others, row, at)
            low, high = difference_bounds(a.slo_misses, a.requests, b.slo_misses, b.requests, 0.05)
            assert (above[row, at], below[row, at]) == (low > 0.05, high < 0.05)


@pytest.mark.parametrize(("ratio", "burst"), [(0.03, 1.0), (0.13, 5.0), (0.03, 20.0)])
def test_chains_have_the_ratio_and_the_runs_they_were_asked_for(ratio: float, burst: float) -> None:
    found = chain(np.array([4000]), ratio, burst, 400, np.random.default_rng(2))
    assert found.hits.mean() / 4000 == pytest.approx(ratio, rel=0.06)
    assert found.hits.sum() / found.runs.sum() == pytest.approx(max(burst, 1 / (1 - ratio)), rel=0.06)


def test_a_canary_that_hangs_is_aborted_before_any_user() -> None:
    step = draw(Cell(CANARIES[4], 20, 1.0, 4), 0, 5, np.random.default_rng(1))
    decided = RULES["ours"](step, [])
    assert decided.known.all()
    assert not decided.passed.any()
    assert all(TIMES[int(at)] < 60 for at in decided.at)


def test_a_canary_that_collapses_is_aborted_by_its_third_collapse() -> None:
    step = draw(Cell(CANARIES[-1], 20, 1.0, 4), 5, 5, np.random.default_rng(1))
    decided = RULES["ours"](step, [])
    assert not decided.passed.any()
    assert all(TIMES[int(at)] < 100 for at in decided.at)


def by_hand(hit: Sequence[bool], sessions: Sequence[str | None]) -> tuple[int, int, int, int]:
    clusters = Clusters()
    for each, session in zip(hit, sessions, strict=True):
        clusters.see("g", session, bool(each))
    runs = clusters.runs()
    return clusters.n, clusters.hits, runs.runs, runs.open


FEW = np.array([0, 1, 4, 37, 230, 700])


def test_a_heavy_user_is_counted_as_the_judge_counts_one() -> None:
    found = heavy_user(FEW, 0.2, 0.1, np.array([True, False]), np.random.default_rng(5)).by_session
    hit = np.random.default_rng(5).random((2, 700)) < 0.2
    for row, name in enumerate(["heavy", None]):
        sessions = [name if number % 10 == 0 else None for number in range(700)]
        misses = [bool(each) or session is not None for each, session in zip(hit[row], sessions, strict=True)]
        for at, n in enumerate(FEW):
            assert tuple(int(part[row, at]) for part in found) == by_hand(misses[:n], sessions[:n])


def test_sessions_that_miss_are_counted_as_the_judge_counts_them() -> None:
    found = sessions_that_miss(FEW, 0.3, 4, np.random.default_rng(5))
    bad = np.random.default_rng(5).random((4, SIDE * (700 // (SIDE * LENGTH) + 1))) < 0.3
    of = [SIDE * (number // (SIDE * LENGTH)) + number % SIDE for number in range(700)]
    for row in range(4):
        misses, sessions = [bool(bad[row, each]) for each in of], [str(each) for each in of]
        for at, n in enumerate(FEW):
            counted = tuple(int(np.broadcast_to(part, (4, len(FEW)))[row, at]) for part in found.by_session)
            assert counted == by_hand(misses[:n], sessions[:n])
            assert int(found.each.hits[row, at]) == sum(misses[:n])


def test_cells_drawn_by_chance_are_as_many_of_each_kind_and_the_first_of_more() -> None:
    cells = [Cell(canary, rps, burst, 4) for canary in CANARIES for rps in (1, 5, 20) for burst in (1.0, 20.0)]
    some = some_of(cells, 24, seed=5)
    assert len(set(some)) == 24
    assert set(Counter((cell.canary.name, cell.burst) for cell in some).values()) == {2}
    assert some_of(cells, 12, seed=5) == some[:12]
    assert some_of(cells, None, seed=5) == cells
