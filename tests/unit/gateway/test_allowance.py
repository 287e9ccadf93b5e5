"""Limits let pass what they say, give back what was not used, and know when to ask again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.identity import Limits
from controlplane.gateway.allowance import Allowance


def allowance(**limits: int) -> Allowance:
    return Allowance(Limits(**limits), 0.0)


def passed(of: Allowance, tokens: int, now: float) -> bool:
    if of.shortage(tokens, now) is not None:
        return False
    of.take(tokens, now)
    return True


@given(
    gaps=st.lists(st.floats(0, 30), min_size=1, max_size=60),
    tokens=st.integers(0, 300),
    requests_per_minute=st.integers(1, 40),
    tokens_per_minute=st.integers(1, 2000),
)
def test_no_stretch_of_time_lets_more_pass_than_its_share_and_a_minutes_worth(
    gaps: list[float], tokens: int, requests_per_minute: int, tokens_per_minute: int
) -> None:
    of = allowance(requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute)
    now, taken = 0.0, []
    for gap in gaps:
        now += gap
        if passed(of, tokens, now):
            taken.append(now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            share = (taken[last] - taken[first]) / 60 + 1
            asked = last - first + 1
            assert asked <= requests_per_minute * share + 1e-6
            assert (asked - 1) * tokens <= tokens_per_minute * share + 1e-6  # the last may find less than it needs


@given(now=st.floats(0, 100), tokens=st.integers(1, 5000), before=st.lists(st.integers(0, 900), max_size=9))
def test_after_the_time_that_was_told_it_passes(now: float, tokens: int, before: list[int]) -> None:
    of = allowance(requests_per_minute=7, tokens_per_minute=1000)
    for each in before:
        passed(of, each, now)
    short = of.shortage(tokens, now)
    assert short is None or of.shortage(tokens, now + short.retry_after_s + 1e-6) is None


def test_what_was_reserved_and_not_used_is_given_back() -> None:
    of = allowance(tokens_per_minute=100)
    assert passed(of, 90, 0.0)
    assert not passed(of, 90, 0.0)
    of.settle(90, 10, 0.0)
    assert passed(of, 90, 0.0)


def test_what_was_used_beyond_the_reservation_is_paid_later() -> None:
    of = allowance(tokens_per_minute=60)
    of.take(10, 0.0)
    of.settle(10, 120, 0.0)
    assert not passed(of, 1, 59.0)
    assert passed(of, 1, 61.0)


def test_a_request_larger_than_the_limit_passes_when_nothing_else_was_asked() -> None:
    of = allowance(tokens_per_minute=60)
    assert passed(of, 500, 0.0)
    assert not passed(of, 500, 60.0)


def test_places_are_given_back() -> None:
    of = allowance(concurrent=2)
    assert [passed(of, 0, 0.0) for _ in range(3)] == [True, True, False]
    of.settle(0, 0, 0.0)
    assert passed(of, 0, 0.0)


def test_clients_are_told_what_is_left() -> None:
    of = allowance(requests_per_minute=60, tokens_per_minute=600)
    of.take(100, 0.0)
    assert of.headers(0.0) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1.000s",
        "x-ratelimit-limit-tokens": "600",
        "x-ratelimit-remaining-tokens": "500",
        "x-ratelimit-reset-tokens": "10.000s",
    }
