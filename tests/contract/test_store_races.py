"""What several do to a store at once: one of them wins, the others are told, nothing is lost unseen."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from controlplane.domain.base import ServiceName
from controlplane.domain.errors import Conflict, FleetuneError, StaleVersion
from controlplane.domain.event import Event
from controlplane.ports.store import Store
from controlplane.services.fleet.serving import register_service
from tests.builders_reports import a_load_report
from tests.builders_serving import CHAT, NOW, a_service, a_spec


def at_once(act: Callable[[int], object], count: int) -> list[object]:
    """Let threads act at the same moment; return what each got, its expected error included."""
    start = Barrier(count)

    def one(number: int) -> object:
        start.wait()
        try:
            return act(number)
        except FleetuneError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_of_services_registered_at_once_with_one_model_name_one_is_kept(store: Store) -> None:
    for turn in range(5):
        spec = a_spec()
        named = [spec.evolve(name=f"s{turn}-{n}", model=spec.model.evolve(name=f"llama-{turn}")) for n in range(4)]
        found = at_once(lambda n: register_service(store, named[n], actor="x", now=NOW), 4)  # noqa: B023
        assert sorted(type(each).__name__ for each in found) == ["Conflict"] * 3 + ["Service"]
    assert len(store.list_services()) == 5


def test_a_model_name_that_another_service_has_is_refused_for_a_known_service_too(store: Store) -> None:
    spec = a_spec()
    store.save_service(a_service(), 0)
    other = a_service(name="other", spec=spec.evolve(name="other", model=spec.model.evolve(name="mine")))
    version = store.save_service(other, 0)
    taken = other.evolve(spec=other.spec.evolve(model=spec.model))
    with pytest.raises(Conflict, match=f"'{spec.model.name}' is served already: by {CHAT}"):
        store.save_service(taken, version, events=[_event("lost")])
    assert store.get_service(ServiceName("other")) == (other, version)
    assert not store.list_events()


def test_of_writes_of_one_setting_at_once_none_is_lost_unseen(store: Store) -> None:
    version = store.write_setting("odd", "0", 0)
    for _ in range(5):
        found = at_once(lambda n: store.write_setting("odd", str(n), version), 4)  # noqa: B023
        (version,) = [each for each in found if isinstance(each, int)]
        assert sum(isinstance(each, StaleVersion) for each in found) == 3
    assert version == 6


def test_of_reports_of_one_name_at_once_one_is_kept_and_the_others_are_told(store: Store) -> None:
    found = at_once(lambda n: store.add_load_report("lr", None, a_load_report(seed=n), NOW), 4)
    assert sum(isinstance(each, Conflict) for each in found) == 3
    assert store.get_load_report("lr").seed == found.index(None)


def _event(action: str, subject: str = "service/chat") -> Event:
    return Event(at=NOW, actor="cli", action=action, subject=subject, service="chat")
