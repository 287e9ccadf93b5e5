"""An adapter serves with the base model that it was made for, and with no other that takes its place."""

from __future__ import annotations

import pytest

from controlplane.domain.errors import Conflict, InvalidInput, Unavailable
from controlplane.domain.models import Variant
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.service import ServiceSpec
from controlplane.services.adapters.manage import load_adapter, unload_adapter
from controlplane.services.fleet.loaded import read_loaded
from controlplane.services.fleet.serving import register_service
from controlplane.services.models import NewVersion, follow_aliases, move_alias, register_version
from controlplane.services.rollouts.manage import promote_rollout, roll_back
from tests.builders_serving import CHAT
from tests.unit.fleet.test_adapters import SUPPORT, Place

OTHER = "/models/llama-8b-ft-2"


def described(place: Place, path: str, **changes: object) -> ServiceSpec:
    spec = place.service.spec
    return spec.evolve(model=spec.model.evolve(path=path), **changes)


def give(place: Place, path: str) -> None:
    register_service(place.store, described(place, path), actor="ann", now=place.clock())


def promoted(place: Place) -> None:
    place.passes(3)
    promote_rollout(place.store, place.rollout.rollout_id, actor="ann", now=place.clock())
    assert place.passes_until(RolloutState.PROMOTED).stable is not None


def test_another_base_model_is_refused_until_the_adapters_of_the_old_one_are_unloaded() -> None:
    place = Place()
    place.load()
    with pytest.raises(Conflict, match=r"support was made for llama-8b, not for .*ft-2.*fleetune adapter unload chat"):
        give(place, OTHER)
    assert place.service.spec.model.path == "llama-8b"
    assert not place.store.list_rollouts(CHAT)
    give(place, "/models/llama-8b")  # the same one, downloaded
    promoted(place)
    unload_adapter(place.store, CHAT, "support", actor="ann", now=place.clock())
    give(place, OTHER)
    assert place.store.get_revision(place.rollout.canary).model.path == OTHER


def test_a_variant_of_the_version_that_serves_keeps_them() -> None:
    place = Place()
    place.load()
    forms = NewVersion(source="llama-8b", variants=(Variant(name="fp8", source="/models/smaller"),))
    register_version(place.store, "llama", forms, actor="ann", now=place.clock())
    give(place, "/models/smaller")
    place.passes(3)
    place.keep()
    assert place.engines(place.rollout.canary)
    assert all(names == {"theirs", "support--1"} for names in place.names)
    place.load(SUPPORT._replace(path="/adapters/better"))


def test_an_alias_that_leads_to_another_base_is_not_followed_while_an_adapter_of_the_old_one_serves() -> None:
    place = Place()
    spec = place.service.spec.evolve(follows="llama@candidate")
    register_service(place.store, spec, actor="ann", now=place.clock())
    place.load()
    register_version(place.store, "llama", NewVersion(source=OTHER), actor="ann", now=place.clock())
    move_alias(place.store, "llama", "candidate", "1", seen=None, actor="ann", now=place.clock())
    with pytest.raises(Unavailable, match="adapter unload chat support"):
        follow_aliases(place.store, now=place.clock())
    unload_adapter(place.store, CHAT, "support", actor="ann", now=place.clock())
    follow_aliases(place.store, now=place.clock())
    assert place.service.spec.model.path == OTHER


def test_after_a_roll_back_to_another_base_its_adapters_are_loaded_nowhere_and_it_is_said() -> None:
    place = Place()
    first = place.service.stable
    assert first is not None
    give(place, OTHER)
    promoted(place)
    place.load(SUPPORT._replace(base="llama-8b-ft-2"))
    assert place.keep() == []
    roll_back(place.store, service=CHAT, revision=first, at_once=True, actor="ann", now=place.clock())
    assert place.passes_until(RolloutState.PROMOTED).canary == first
    place.passes(5)
    assert f"support was made for {OTHER}" in place.keep()[0]
    assert "serves llama-8b" in read_loaded(place.store, CHAT).problems["support--1"]
    assert not any("support--1" in names for names in place.names)
    with pytest.raises(InvalidInput, match="one made for llama-8b"):  # what serves counts, not what is described
        load_adapter(place.store, CHAT, SUPPORT._replace(name="legal", base=OTHER), share_percent=0, actor="ann",
                     now=place.clock())  # fmt: skip
