"""A figure is drawn again when what it shows has changed, and only then."""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.domain.base import Value
from dashboards.charts.drawn import drawn_once


class _Seen(Value):
    flags: Mapping[str, int]


def test_equal_values_are_drawn_once_and_others_anew() -> None:
    asked: list[tuple[int, str]] = []

    @drawn_once
    def draw(seen: _Seen, *, title: str) -> list[str]:
        asked.append((seen.flags["batch"], title))
        return [title]

    first = draw(_Seen(flags={"batch": 1}), title="a")
    assert draw(_Seen(flags={"batch": 1}), title="a") is first
    assert draw(_Seen(flags={"batch": 2}), title="a") == ["a"]
    assert draw(_Seen(flags={"batch": 1}), title="b") == ["b"]
    assert draw(_Seen(flags={"batch": 1}), title="a") is first
    assert asked == [(1, "a"), (2, "a"), (1, "b")]


def test_what_many_others_asked_for_since_is_drawn_anew() -> None:
    asked: list[int] = []

    @drawn_once
    def draw(number: int) -> int:
        asked.append(number)
        return number

    for number in (*range(40), 0):
        assert draw(number) == number
    assert asked == [*range(40), 0]
