"""A request that is held rings for the controller; gateways are asked only while a service is at zero."""

from __future__ import annotations

import threading

import pytest

from controlplane.domain.operations.autoscale_options import AutoscaleOptions
from controlplane.domain.serving import Service
from controlplane.services.fleet.waking import HeldWatcher
from controlplane.worker import Bell, repeat
from tests.builders_serving import a_service, a_spec
from tests.fakes.store import FakeStore

TO_ZERO = a_spec(autoscale=AutoscaleOptions(enabled=True, min_replicas=0))


class Held:
    """Gateways in memory: what they say of held requests, one after the other."""

    def __init__(self, *said: bool) -> None:
        self.said = list(said)

    def await_held(self) -> bool:
        return self.said.pop(0)


def watcher(service: Service, held: Held, rung: list[str]) -> HeldWatcher:
    store = FakeStore()
    store.save_service(service, 0)
    return HeldWatcher(store=store, held=held, ring=lambda: rung.append("rung"))


def test_a_held_request_rings_and_none_is_waited_for_on() -> None:
    rung: list[str] = []
    watch = watcher(a_service(spec=TO_ZERO), Held(False, True), rung)
    assert watch.run(), "nothing yet: wait on at once"
    assert rung == []
    assert not watch.run()
    assert rung == ["rung"]


@pytest.mark.parametrize(
    "service",
    [a_service(), a_service(spec=TO_ZERO, stable_replicas=1), a_service(spec=TO_ZERO, stopped=True)],
    ids=["never at zero", "serves", "stopped"],
)
def test_gateways_are_not_asked_while_nothing_can_be_held(service: Service) -> None:
    rung: list[str] = []
    assert not watcher(service, Held(), rung).run()
    assert rung == []


def test_a_bell_ends_the_pause_of_a_loop_and_is_heard_once() -> None:
    bell, stop = Bell(), threading.Event()
    passes: list[int] = []

    def one_pass() -> bool:
        passes.append(len(passes))
        if len(passes) < 3:
            bell.ring()
        else:
            stop.set()
            bell.ring()
        return False

    repeat(one_pass, every_s=3600, stop=stop, bell=bell)
    assert passes == [0, 1, 2]
