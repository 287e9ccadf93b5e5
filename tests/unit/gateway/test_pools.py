"""A replica that cannot be reached is put aside, probed, and comes back."""

from __future__ import annotations

import pytest

from controlplane.domain.base import RevisionId
from controlplane.domain.routing import Backend
from controlplane.gateway.pools import Replica


def replica() -> Replica:
    return Replica(Backend(engine_id="e1", url="http://e1"), RevisionId("rev-a"))


def test_it_is_put_aside_for_half_a_second_first() -> None:
    one = replica()
    one.failed_to_connect(10.0)
    assert not one.usable(10.4)
    assert one.usable(10.5)


def test_the_backoff_doubles_up_to_ten_seconds() -> None:
    one = replica()
    waits = []
    for _ in range(7):
        one.failed_to_connect(0.0)
        waits.append(next(tenth / 10 for tenth in range(1, 200) if one.usable(tenth / 10)))
    assert waits == [0.5, 1, 2, 4, 8, 10, 10]


def test_after_the_backoff_one_request_at_a_time_probes_it() -> None:
    one = replica()
    one.failed_to_connect(0.0)
    with one.serving():
        assert not one.usable(1.0)
    assert one.usable(1.0)


def test_streams_that_began_before_do_not_hinder_the_probe() -> None:
    one = replica()
    with one.serving():
        one.failed_to_connect(0.0)
        assert one.usable(1.0)


def test_an_answer_brings_it_back() -> None:
    one = replica()
    one.failed_to_connect(0.0)
    with one.serving():
        one.answered()
        assert one.usable(0.1)


def test_what_is_in_flight_is_given_back_on_exceptions_too() -> None:
    one = replica()
    with pytest.raises(ZeroDivisionError), one.serving():
        _ = one.in_flight / 0
    assert one.in_flight == 0
