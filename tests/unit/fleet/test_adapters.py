"""Every replica gets the adapters that are wanted, and the routing table names those that have them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest

from controlplane.domain.base import EngineId
from controlplane.domain.engines.engine import EngineKind
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.errors import Conflict, InvalidInput, NotFound, Unavailable
from controlplane.domain.service import EmulatorOptions, EngineOptions
from controlplane.services.adapters.keep import GRACE_S, AdapterKeeper
from controlplane.services.adapters.manage import (
    NewAdapter,
    load_adapter,
    promote_adapter,
    roll_back_adapter,
    unload_adapter,
)
from controlplane.services.fleet.loaded import read_loaded
from controlplane.services.fleet.resting import note_asleep, note_awake
from tests.builders_serving import CHAT
from tests.fakes.killing import Killer
from tests.integration.controller.site import Site
from tests.remembering import grown, remembered

ENGINE = EngineOptions(
    kind=EngineKind.EMULATOR,
    emulator=EmulatorOptions(startup_s=0),
    flags={"enable-lora": True, "max-lora-rank": 32},
    env={"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"},
)
SUPPORT = NewAdapter("support", "/adapters/support", rank=8, base="llama-8b")
BETTER = SUPPORT._replace(path="/adapters/better")


class Engines:
    """What engines have loaded. `bad` paths are refused, `deaf` engines do not answer; `acts` took effect."""

    def __init__(self) -> None:
        self.has: dict[EngineId, dict[str, str]] = {}
        self.acts: Counter[tuple[EngineId, str, str]] = Counter()
        self.bad: set[str] = set()
        self.deaf: set[EngineId] = set()

    def loaded(self, engine: Engine) -> Mapping[str, str]:
        if engine.spec.engine_id in self.deaf:
            raise Unavailable(f"{engine.spec.engine_id} does not answer")
        return self.has.setdefault(engine.spec.engine_id, {"theirs": "/x"})

    def load(self, engine: Engine, name: str, path: str) -> None:
        if path in self.bad:
            raise InvalidInput(f"{engine.spec.engine_id} refuses the adapter {path}", why="it has no tensors")
        self.has[engine.spec.engine_id][name] = path
        self.acts[engine.spec.engine_id, "load", name] += 1

    def unload(self, engine: Engine, name: str) -> None:
        self.has[engine.spec.engine_id].pop(name, None)
        self.acts[engine.spec.engine_id, "unload", name] += 1


class Place(Site):
    """A site whose replicas load adapters."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.loader = Engines()
        self.serving(engine=ENGINE, initial_replicas=2)
        self.new_keeper()

    def new_keeper(self) -> None:
        self.keeper = AdapterKeeper(
            store=self.store, fleet=self.fleet, loader=self.loader, monotonic=self.clock.monotonic
        )

    def watched(self, killer: Killer) -> None:
        """Give it a keeper that is killed at one of its calls."""
        self.keeper = AdapterKeeper(
            store=killer.wrap(self.store),
            fleet=killer.wrap(self.fleet),
            loader=killer.wrap(self.loader),
            monotonic=self.clock.monotonic,
        )

    def load(self, new: NewAdapter = SUPPORT, share: int = 20) -> None:
        load_adapter(self.store, CHAT, new, share_percent=share, actor="ann", now=self.clock())

    def keep(self) -> list[str]:
        problems = list(self.keeper.run())
        self.passes(1)
        return problems

    @property
    def names(self) -> list[set[str]]:
        return [set(self.loader.has[each.spec.engine_id]) for each in self.engines()]

    @property
    def parts(self) -> dict[str, tuple[int, int]]:
        """Share and number of engines by version of `support`, as the gateway has them."""
        (adapter,) = self.table.services[0].adapters
        return {part.loaded_as: (part.share_percent, len(part.engines)) for part in adapter.parts}


def test_an_adapter_is_loaded_on_every_replica_and_on_those_that_come_later() -> None:
    place = Place()
    assert place.keep() == []
    place.load()
    assert not place.table.services[0].adapters
    place.keep()
    assert place.names == [{"theirs", "support--1"}] * 2
    assert place.parts == {"support--1": (100, 2)}
    place.fleet.crash(place.engines()[0].spec.engine_id)
    place.passes(4)
    assert place.parts == {"support--1": (100, 1)}  # the new replica has it not yet, and gets no request for it
    place.new_keeper()  # whoever keeps them from now on knows nothing and looks
    place.keep()
    assert place.parts == {"support--1": (100, 2)}


def test_a_new_version_gets_its_share_until_it_is_promoted_and_the_old_one_goes_after_a_while() -> None:
    place = Place()
    place.load()
    place.keep()
    place.load(SUPPORT._replace(path="/adapters/better"))
    place.passes(1)
    assert place.parts == {"support--1": (100, 2)}  # nobody has the new one yet
    place.keep()
    assert place.parts == {"support--1": (80, 2), "support--2": (20, 2)}
    promote_adapter(place.store, CHAT, "support", actor="ann", now=place.clock())
    place.keep()
    assert place.parts == {"support--2": (100, 2)}
    assert "support--1" in place.names[0]
    place.clock.go_on(GRACE_S)
    place.keep()
    assert place.names == [{"theirs", "support--2"}] * 2


def test_a_version_that_was_wanted_again_meanwhile_has_its_whole_grace_when_it_goes() -> None:
    place = Place()
    place.load()
    place.keep()
    place.load(SUPPORT._replace(path="/adapters/better"))
    promote_adapter(place.store, CHAT, "support", actor="ann", now=place.clock())
    place.keep()  # version 1 is not wanted any more
    for version in (1, 2):
        roll_back_adapter(place.store, CHAT, "support", to=version, actor="ann", now=place.clock())
        place.clock.go_on(GRACE_S - 2)
        place.keep()
    assert place.names == [{"theirs", "support--1", "support--2"}] * 2, "gateways may still be told of version 1"
    place.clock.go_on(GRACE_S)
    place.keep()
    assert place.names == [{"theirs", "support--2"}] * 2


def test_engines_that_went_with_what_was_unwanted_leave_nothing_behind() -> None:
    place, told = Place(), []
    place.load()
    for number in range(4):
        place.keep()
        place.load(SUPPORT._replace(path=f"/adapters/support-{number}"), share=100)
        promote_adapter(place.store, CHAT, "support", actor="ann", now=place.clock())
        place.keep()
        told.append(remembered(place.keeper))
        for engine in place.engines():
            place.fleet.crash(engine.spec.engine_id)
        place.passes(40)
    assert told[0].total() == 2
    assert grown(told[0], told[-1]) == {}


def test_what_is_loaded_after_an_unload_is_never_served_by_the_weights_before() -> None:
    place = Place()
    place.load()
    place.keep()
    unload_adapter(place.store, CHAT, "support", actor="ann", now=place.clock())
    place.load(BETTER)  # replicas have the old one for some seconds yet
    place.keep()
    (served,) = place.parts
    assert {place.loader.has[each.spec.engine_id][served] for each in place.engines()} == {BETTER.path}


def test_a_version_that_engines_refuse_gets_nothing_is_told_and_is_taken_back() -> None:
    place = Place()
    place.load()
    place.keep()
    place.loader.bad.add("/adapters/broken")
    place.load(SUPPORT._replace(path="/adapters/broken"))
    assert "it has no tensors" in place.keep()[0]
    assert place.parts == {"support--1": (100, 2)}
    assert "it has no tensors" in read_loaded(place.store, CHAT).problems["support--2"]
    roll_back_adapter(place.store, CHAT, "support", to=None, actor="ann", now=place.clock())
    assert place.keep() == []
    told = [event.action for event in place.store.list_events(subject="adapter/chat/support")]
    assert told == ["adapter.rolled_back", "adapter.loaded", "adapter.loaded"]


def test_a_replica_that_does_not_answer_gets_no_request_for_an_adapter() -> None:
    place = Place()
    place.load()
    place.keep()
    place.loader.deaf.add(place.engines()[0].spec.engine_id)
    assert "does not answer" in place.keep()[0]
    assert place.parts == {"support--1": (100, 1)}


def test_an_unloaded_adapter_is_named_no_more_and_what_others_loaded_stays() -> None:
    place = Place()
    place.load()
    place.keep()
    unload_adapter(place.store, CHAT, "support", actor="ann", now=place.clock())
    place.keep()
    assert not place.table.services[0].adapters
    place.clock.go_on(GRACE_S)
    place.keep()
    assert place.names == [{"theirs"}] * 2
    with pytest.raises(NotFound, match="chat has no adapter 'support'"):
        unload_adapter(place.store, CHAT, "support", actor="ann", now=place.clock())


@pytest.mark.parametrize(
    ("new", "error", "said"),
    [
        (SUPPORT._replace(base="org/mistral-7b"), InvalidInput, "it was made for org/mistral-7b"),
        (SUPPORT._replace(rank=64), InvalidInput, "its rank is 64 .allowed: max-lora-rank of stable, 32"),
        (SUPPORT._replace(name="llama-8b"), Conflict, "'llama-8b' is served already"),
    ],
)
def test_an_adapter_that_cannot_serve_is_refused_at_once(new: NewAdapter, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Place().load(new)


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        (ENGINE.evolve(flags={}), "stable runs without the flag enable-lora"),
        (ENGINE.evolve(env={}), "its engines run without VLLM_ALLOW_RUNTIME_LORA_UPDATING"),
    ],
)
def test_engines_without_adapters_are_named(engine: EngineOptions, said: str) -> None:
    site = Site()
    site.serving(engine=engine)
    with pytest.raises(InvalidInput, match=said):
        load_adapter(site.store, CHAT, SUPPORT, share_percent=5, actor="ann", now=site.clock())


def test_an_engine_that_may_be_asleep_is_given_its_adapters_once_it_is_awake() -> None:
    place = Place()
    place.load()
    sleeper = place.engines()[0].spec.engine_id
    note_asleep(place.store, CHAT, sleeper)
    place.keep()
    assert SUPPORT.name not in str(place.loader.has.get(sleeper, {}))
    note_awake(place.store, CHAT, sleeper)
    place.keep()
    assert any(SUPPORT.name in name for name in place.loader.has[sleeper])
