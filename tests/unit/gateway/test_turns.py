"""Who works in the background lets others go on."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from controlplane.gateway.background import until_turn
from controlplane.gateway.turns import AT_A_TIME, in_turns

MUCH = 200_000
"""More than is done before the other thread gets a core of a busy machine, where it is let go on at all."""


@pytest.fixture
def locks_are_kept() -> Iterator[None]:
    """Nobody gets Python's lock from a thread that does not let go of it."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(3600)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("locks_are_kept")
def test_a_thread_that_works_through_much_lets_another_go_on() -> None:
    asked, heard = threading.Event(), threading.Event()

    def work() -> None:
        for _ in in_turns(range(MUCH)):
            if asked.is_set():
                heard.set()
                return

    worker = threading.Thread(target=work)
    worker.start()
    asked.set()
    worker.join()
    assert heard.is_set()


def test_everything_comes_in_its_order() -> None:
    assert list(in_turns(range(3 * AT_A_TIME + 1))) == list(range(3 * AT_A_TIME + 1))
    assert not list(in_turns(()))


@pytest.mark.parametrize(("now_s", "next_s"), [(0.05, 0.2), (0.15, 0.2), (0.2, 0.4), (0.95, 1.0), (61.3, 61.4)])
def test_who_works_at_the_same_pace_works_at_the_same_instants(now_s: float, next_s: float) -> None:
    assert now_s + until_turn(0.2, now_s) == pytest.approx(next_s)


def test_who_works_more_seldom_works_at_instants_of_the_others() -> None:
    turn = 7.3 + until_turn(1.0, 7.3)
    assert turn == pytest.approx(8.0)
    assert until_turn(0.2, turn - 0.2) == pytest.approx(0.2)
