"""Versions of an adapter: which serve, under which names, with which shares."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.domain.adapters import AdapterVersion, ServedAdapter, check_rank, is_ours
from controlplane.domain.errors import Conflict, InvalidInput, NotFound
from tests.builders_serving import NOW


def a_version(number: int) -> AdapterVersion:
    return AdapterVersion(number=number, path=f"/adapters/{number}", rank=8, added_at=NOW, added_by="ann")


def an_adapter(**changes: Any) -> ServedAdapter:
    return ServedAdapter(name="support", versions=(a_version(1),), stable=1).evolve(**changes)


def test_a_new_version_serves_beside_the_old_one_until_it_is_promoted_or_taken_back() -> None:
    both = an_adapter().with_canary(a_version(2), 20, judged=True)
    assert (both.shares, [each.number for each in both.served]) == (((1, 80), (2, 20)), [1, 2])
    assert {both.loaded_as(number) for number, _ in both.shares} == {"support--1", "support--2"}
    with pytest.raises(Conflict, match="version 2 of support is a canary already"):
        both.with_canary(a_version(3), 5, judged=True)
    assert both.promoted().shares == ((2, 100),)
    assert both.taken_back().shares == ((1, 100),)
    assert both.promoted().back_to(1).shares == ((1, 100),)


def test_there_is_always_something_to_serve() -> None:
    for act in (ServedAdapter.promoted, ServedAdapter.taken_back):
        with pytest.raises(Conflict, match="has no canary"):
            act(an_adapter())
    with pytest.raises(NotFound, match=r"no version 7.*allowed: 1"):
        an_adapter().back_to(7)
    for changes in ({"stable": None}, {"canary": 2}):
        with pytest.raises(ValueError, match="support serves"):
            an_adapter(**changes)


def test_names_that_we_give_are_known_from_those_that_others_give() -> None:
    assert is_ours("support--12")
    assert not is_ours("support")
    assert not is_ours("sql-lora--x")


def test_a_rank_that_replicas_do_not_take_is_refused_before_they_are_asked() -> None:
    check_rank("/a", 16, 16)
    check_rank("/a", None, 16)
    with pytest.raises(InvalidInput, match=r"its rank is 64 .allowed: max-lora-rank of stable, 16"):
        check_rank("/a", 64, 16)
