"""Several workers ask one search: each gets a candidate of its own."""

from __future__ import annotations

from pathlib import Path

from tests.unit.tuner.search.test_search import POINTS, among, cost, opened, run
from tuner.search.advisor import advise
from tuner.search.candidates import Tried, point_key
from tuner.search.search import Proposal
from tuner.space.space import Point


def test_two_workers_do_not_get_the_same_candidate() -> None:
    known = [Tried(POINTS[0], log_cost=cost(POINTS[0]))]
    first = advise(among(), known, worthwhile=0.01).row
    assert first is not None
    assert advise(among(), known, pending=[POINTS[first]], worthwhile=0.01).row != first


def test_workers_that_ask_at_the_same_time_all_get_different_candidates(tmp_path: Path) -> None:
    search = opened(tmp_path)
    run(search, 1)
    asked = [search.ask() for _ in range(6)]
    found = [point_key(proposal.point) for proposal in asked if isinstance(proposal, Proposal)]
    assert len(found) == 6
    assert len(set(found)) == 6


def test_as_many_workers_as_ask_get_candidates_of_their_own() -> None:
    known = [Tried(POINTS[0], log_cost=cost(POINTS[0]))]
    pending: list[Point] = []
    for _ in range(8):
        row = advise(among(), known, pending=pending, worthwhile=1e-6).row
        assert row is not None
        pending.append(POINTS[row])
    assert len({point_key(point) for point in pending}) == 8


def test_asks_without_a_tell_between_them_give_different_candidates(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    asked = [search.ask() for search in (first, second, first, second)]
    points = [proposal.point for proposal in asked if isinstance(proposal, Proposal)]
    assert len({point_key(point) for point in points}) == 4
