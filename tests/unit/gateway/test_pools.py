"""What is in flight on a replica is counted whatever happens."""

from __future__ import annotations

import pytest

from controlplane.domain.base import RevisionId
from controlplane.domain.door.routing import Backend
from controlplane.gateway.pools import Replica


def replica() -> Replica:
    return Replica(Backend(engine_id="e1", url="http://e1"), RevisionId("rev-a"))


def test_after_the_backoff_one_request_at_a_time_probes_it() -> None:
    one = replica()
    one.breaker.failed_to_connect(0.0)
    with one.serving() as probe:
        assert probe
        assert not one.breaker.reachable(1.0)
        with one.serving() as second:
            assert not second
        assert not one.breaker.reachable(1.0)
    assert one.breaker.reachable(1.0)


def test_streams_that_began_before_do_not_hinder_the_probe() -> None:
    one = replica()
    with one.serving():
        one.breaker.failed_to_connect(0.0)
        assert one.breaker.reachable(1.0)


def test_what_is_in_flight_is_given_back_on_exceptions_too() -> None:
    one = replica()
    with pytest.raises(ZeroDivisionError), one.serving():
        _ = one.in_flight / 0
    assert one.in_flight == 0
