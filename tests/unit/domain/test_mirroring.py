"""A model of the registry as its catalogue says it, where nothing is left to do as well."""

from __future__ import annotations

from controlplane.domain.catalogue import CatalogueModel, CatalogueVersion
from controlplane.domain.mirroring import ACTOR, mirrored
from controlplane.domain.models import RegisteredModel
from tests.builders_serving import NOW, after

ONE, TWO = (CatalogueVersion(number, f"s3://models/llama/{number}") for number in ("1", "2"))


def seen(stable: str) -> CatalogueModel:
    return CatalogueModel("Llama", (ONE, TWO), {"stable": stable})


def followed() -> RegisteredModel:
    return mirrored(RegisteredModel(name="llama"), seen("1"), {}, NOW).model


def test_an_alias_that_moved_there_moves_here_and_that_is_said() -> None:
    moved = mirrored(followed(), seen("2"), {}, after(60))
    assert [(event.action, event.reason) for event in moved.events] == [("model.alias_moved", "stable: 1 → 2")]
    assert (moved.model.aliases["stable"].version, moved.model.aliases["stable"].moved_by) == (2, ACTOR)


def test_an_alias_that_we_moved_there_ourselves_is_seen_and_neither_moved_nor_said_again() -> None:
    ours = followed().moved("stable", 2, by="controller", at=after(30))
    found = mirrored(ours, seen("2"), {}, after(60))
    assert found.events == ()
    assert found.model.aliases["stable"] == ours.aliases["stable"]
    assert found.model.origin is not None
    assert found.model.origin.aliases["stable"].version == "2"


def test_an_alias_that_stayed_there_leaves_alone_what_a_person_did_here() -> None:
    ours = followed().moved("stable", 2, by="ann", at=after(30))
    found = mirrored(ours, seen("1"), {}, after(60))
    assert (found.events, found.model.aliases["stable"].moved_by) == ((), "ann")
