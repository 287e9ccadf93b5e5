"""Several routers as one: all are given the table, all are read back, and one that fails keeps none of the others."""

from __future__ import annotations

import pytest

from controlplane.adapters.every_router import EveryRouter
from controlplane.domain.door.routing import RoutingTable
from controlplane.domain.errors import Unavailable
from tests.fakes.traffic_router import FakeTrafficRouter

TABLE = RoutingTable(version=1)


def test_all_have_the_table_and_are_read_back() -> None:
    one, two = FakeTrafficRouter(["a"]), FakeTrafficRouter(["b", "c"])
    EveryRouter([one, two]).apply(TABLE)
    assert list(EveryRouter([one, two]).actual()) == [TABLE] * 3


def test_one_that_fails_is_told_once_all_were_asked() -> None:
    one, two = FakeTrafficRouter(["a"]), FakeTrafficRouter(["b"])
    one.down.add("a")
    with pytest.raises(Unavailable, match="gateway a"):
        EveryRouter([one, two]).apply(TABLE)
    assert list(EveryRouter([one, two]).actual()) == [TABLE, None]


def test_none_that_answers_is_told() -> None:
    with pytest.raises(Unavailable):
        EveryRouter([FakeTrafficRouter([]), FakeTrafficRouter([])]).actual()
