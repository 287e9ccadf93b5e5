"""The clock that several workers share in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest

from benchmarks.study_speedup.turns import Turns


def seconds(moment: datetime, since: datetime) -> float:
    return (moment - since).total_seconds()


def test_workers_work_side_by_side_in_the_order_of_their_waits() -> None:
    clock = Turns(lambda _: None)
    begun, seen = clock(), list[tuple[str, float]]()

    def worker(name: str, *waits: float) -> Callable[[], None]:
        def work() -> None:
            for each in waits:
                clock.go_on(each)
                seen.append((name, seconds(clock(), begun)))

        return work

    clock.run([worker("a", 3, 3), worker("b", 1, 1, 3), worker("c", 10)])
    assert seen == [("b", 1), ("b", 2), ("a", 3), ("b", 5), ("a", 6), ("c", 10)]


def test_whoever_waits_gives_a_sign_of_life_before_another_goes_on() -> None:
    told: list[float] = []
    clock = Turns(lambda now: told.append(seconds(now, begun)))
    begun = clock()
    clock.run([lambda: clock.go_on(2), lambda: clock.go_on(5)])
    assert sorted(set(told)) == [0, 2, 5]


def test_what_breaks_one_worker_is_raised_and_the_others_end() -> None:
    clock, ended = Turns(lambda _: None), list[str]()

    def broken() -> None:
        raise ValueError("broken")

    def sound() -> None:
        clock.go_on(1)
        ended.append("sound")

    with pytest.raises(ValueError, match="broken"):
        clock.run([broken, sound])
    assert ended == ["sound"]
