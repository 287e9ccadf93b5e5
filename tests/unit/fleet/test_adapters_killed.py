"""kill -9 of what gives replicas their adapters, at every call it makes to the outside, and a new one afterwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from controlplane.services.adapters.keep import GRACE_S
from controlplane.services.adapters.manage import promote_adapter, roll_back_adapter, unload_adapter
from tests.builders_serving import CHAT
from tests.fakes.killing import Killed, Killer, Moment
from tests.unit.fleet.test_adapters import BETTER, Place


def changed_under(killer: Killer) -> Place:
    """Load a new version, promote it and go back, with a keeper that dies once."""
    place = Place()
    place.load()
    place.keep()
    place.watched(killer)
    lived_through(place, lambda: place.load(BETTER))
    lived_through(place, lambda: promote_adapter(place.store, CHAT, "support", actor="ann", now=place.clock()))
    lived_through(place, lambda: roll_back_adapter(place.store, CHAT, "support", to=1, actor="ann", now=place.clock()))
    return place


def come_and_gone(killer: Killer) -> Place:
    """Load an adapter and a canary of it, and unload both, with a keeper that dies once."""
    place = Place()
    place.watched(killer)
    lived_through(place, place.load)
    lived_through(place, lambda: place.load(BETTER))
    lived_through(place, lambda: unload_adapter(place.store, CHAT, "support", actor="ann", now=place.clock()))
    return place


def lived_through(place: Place, act: Callable[[], object]) -> None:
    act()
    for _ in range(3):
        place.clock.go_on(GRACE_S / 2)
        try:
            place.keep()
        except Killed:
            place.new_keeper()


def settled(place: Place) -> None:
    for _ in range(2):
        place.clock.go_on(GRACE_S)
        place.keep()


@pytest.mark.parametrize("moment", Moment)
def test_killed_at_any_call_every_replica_has_what_is_wanted_in_the_end_and_nothing_else_of_ours(
    moment: Moment,
) -> None:
    unharmed = Killer(at=0, moment=moment)
    changed_under(unharmed)
    assert unharmed.calls > 30
    for at in range(1, unharmed.calls + 1):
        place = changed_under(Killer(at=at, moment=moment))
        settled(place)
        assert place.names == [{"theirs", "support--1"}] * 2, f"killed {moment} call {at}"
        assert place.parts == {"support--1": (100, 2)}


@pytest.mark.parametrize("moment", Moment)
def test_killed_at_any_call_each_replica_loads_and_unloads_an_adapter_once(moment: Moment) -> None:
    unharmed = Killer(at=0, moment=moment)
    come_and_gone(unharmed)
    for at in range(1, unharmed.calls + 1):
        place = come_and_gone(Killer(at=at, moment=moment))
        settled(place)
        assert place.names == [{"theirs"}] * 2, f"killed {moment} call {at}"
        assert not place.table.services[0].adapters
        loads = {key: count for key, count in place.loader.acts.items() if key[1] == "load"}
        assert len(loads) == 4, "two versions on two replicas"
        assert set(place.loader.acts.values()) == {1}, f"killed {moment} call {at}: {place.loader.acts}"
