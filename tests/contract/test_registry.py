"""The registry in the store: one suite for the fake, SQLite and PostgreSQL."""

from __future__ import annotations

import pytest

from controlplane.domain.base import RevisionId, RolloutId, StudyId
from controlplane.domain.errors import Conflict, InvalidInput, NotFound, StaleVersion, Unavailable
from controlplane.domain.models import CANDIDATE, STABLE, RegisteredModel, Variant
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.ports.store import Store
from controlplane.services.fleet.serving import register_service
from controlplane.services.models import (
    NewVersion,
    follow_aliases,
    last_good,
    lineage,
    move_alias,
    note_promotions,
    register_version,
    serve_version,
)
from controlplane.services.rollouts.manage import active_rollout
from tests.builders_serving import CHAT, NOW, a_revision, a_rollout, a_spec, after
from tests.contract.test_store_races import at_once

DIGEST = "sha256:" + "0" * 64


def registered(store: Store, *sources: str) -> RegisteredModel:
    for source in sources:
        register_version(store, "llama", NewVersion(source), actor="ann", now=NOW)
    return store.get_model("llama").value


def test_versions_are_numbered_and_found_by_number_alias_or_latest(store: Store) -> None:
    model = registered(store, "/models/a", "/models/b")
    model = move_alias(store, "llama", STABLE, "1", seen=None, actor="ann", now=NOW)
    assert [version.number for version in model.versions] == [1, 2]
    assert [model.find(each).source for each in ("2", STABLE, "latest")] == ["/models/b", "/models/a", "/models/b"]
    assert store.get_model("llama").value == model
    assert [row.value for row in store.list_models()] == [model]
    told = [event.action for event in store.list_events(subject="model/llama")]
    assert told == ["model.alias_moved", "model.registered", "model.registered"]


def test_an_unknown_version_is_said_with_those_there_are(store: Store) -> None:
    registered(store, "/models/a")
    for reference in ("3", "0", "canary", "1.5", "-1", "latest "):
        with pytest.raises(NotFound, match=r"llama has no version .*allowed: 1"):
            move_alias(store, "llama", STABLE, reference, seen=None, actor="ann", now=NOW)
    with pytest.raises(NotFound, match="no model 'mistral'"):
        store.get_model("mistral")


def test_an_alias_that_could_be_taken_for_something_else_is_refused(store: Store) -> None:
    registered(store, "/models/a")
    for alias in ("latest", "1", "Stable", "a b", ""):
        with pytest.raises(InvalidInput, match="is no alias"):
            move_alias(store, "llama", alias, "1", seen=None, actor="ann", now=NOW)


def test_the_same_source_is_no_second_version_but_new_files_in_it_are(store: Store) -> None:
    registered(store, "/models/a")
    with pytest.raises(Conflict, match="is version 1 of llama already"):
        registered(store, "/models/a")
    register_version(store, "llama", NewVersion("/models/a", digest=DIGEST), actor="ann", now=NOW)
    assert len(store.get_model("llama").value.versions) == 2


def test_of_people_who_move_an_alias_at_once_one_wins_and_the_others_are_told(store: Store) -> None:
    registered(store, *(f"/v{number}" for number in range(12)))
    seen = None
    for turn in range(3):

        def mine(person: int, turn: int = turn, seen: int | None = seen) -> object:
            wanted = str(4 * turn + person + 1)
            return move_alias(store, "llama", CANDIDATE, wanted, seen=seen, actor=f"p{person}", now=NOW)

        found = at_once(mine, 4)
        (won,) = [each for each in found if isinstance(each, RegisteredModel)]
        assert sum(type(each) is Conflict for each in found) == 3
        assert store.get_model("llama").value == won
        seen = won.aliases[CANDIDATE].version
    with pytest.raises(Conflict, match=rf"was moved to version {seen} by p\d"):
        move_alias(store, "llama", CANDIDATE, "1", seen=99, actor="late", now=NOW)


def test_who_moves_another_alias_or_registers_meanwhile_is_in_nobodys_way(store: Store) -> None:
    registered(store, "/v0", "/v1")
    for turn in range(3):

        def mine(person: int, turn: int = turn) -> object:
            return move_alias(store, "llama", f"a{turn}-{person}", "2", seen=None, actor=f"p{person}", now=NOW)

        found = at_once(mine, 4)
        assert all(isinstance(each, RegisteredModel) for each in found), found
    assert len(store.get_model("llama").value.aliases) == 12


def test_of_versions_registered_at_once_none_is_lost_unseen(store: Store) -> None:
    registered(store, "/first")
    found = at_once(lambda n: register_version(store, "llama", NewVersion(f"/v{n}"), actor="x", now=NOW), 4)
    kept = [each for each in found if not isinstance(each, StaleVersion)]
    sources = {version.source for version in store.get_model("llama").value.versions}
    assert len(sources) == len(kept) + 1
    assert all(each.source in sources for each in kept)  # type: ignore[attr-defined]


def test_a_served_version_goes_out_as_a_canary_and_stable_follows_its_promotion(store: Store) -> None:
    fp8 = Variant(name="fp8", source="/models/b-fp8")
    registered(store, a_spec().model.path)
    register_version(store, "llama", NewVersion("/models/b", variants=(fp8,)), actor="ann", now=NOW)
    register_service(store, a_spec(), actor="ann", now=NOW)
    with pytest.raises(NotFound, match="no variant 'awq'"):
        serve_version(store, CHAT, "llama", "2", variant="awq", actor="ann", now=NOW)
    service = serve_version(store, CHAT, "llama", "latest", variant="fp8", actor="ann", now=NOW)
    assert service.spec.model.path == "/models/b-fp8"
    active = active_rollout(store, CHAT)
    assert active is not None
    noted: set[RolloutId] = set()
    note_promotions(store, noted=noted, now=NOW)
    assert not store.get_model("llama").value.aliases

    done = active.value.evolve(state=RolloutState.PROMOTED, finished_at=after(60), reason="no worse")
    store.save_rollout(done, active.version)
    note_promotions(store, noted=noted, now=after(61))
    note_promotions(store, noted=set(), now=after(62))
    alias = store.get_model("llama").value.aliases[STABLE]
    assert (alias.version, alias.moved_by, alias.moved_at) == (2, "controller", after(61))
    found = [(each.version, each.rollout, each.state) for each in lineage(store, "llama")]
    assert (2, done.rollout_id, RolloutState.PROMOTED) in found
    assert (1, None, None) in found


def test_a_moved_alias_starts_one_canary_and_a_version_rolled_back_is_not_tried_again(store: Store) -> None:
    registered(store, a_spec().model.path, "/models/b", "/models/c")
    register_service(store, a_spec(follows="llama@candidate"), actor="ann", now=NOW)
    with pytest.raises(Unavailable, match="chat: llama has no version 'candidate'"):
        follow_aliases(store, now=NOW)

    move_alias(store, "llama", CANDIDATE, "2", seen=None, actor="ann", now=NOW)
    follow_aliases(store, now=NOW)
    follow_aliases(store, now=NOW)
    (started,) = store.list_rollouts(CHAT)
    assert store.get_revision(started.value.canary).model.path == "/models/b"

    store.save_rollout(started.value.evolve(state=RolloutState.ABORTED, finished_at=after(60)), started.version)
    follow_aliases(store, now=after(61))
    assert len(store.list_rollouts(CHAT)) == 1

    register_service(store, a_spec(follows="llama@candidate", initial_replicas=2), actor="ann", now=after(62))
    follow_aliases(store, now=after(62))
    assert len(store.list_rollouts(CHAT)) == 1  # a description given again is no new version
    with pytest.raises(Conflict, match="chat follows llama@candidate"):
        serve_version(store, CHAT, "llama", "1", variant=None, actor="ann", now=after(62))

    move_alias(store, "llama", CANDIDATE, "3", seen=2, actor="ann", now=after(62))
    follow_aliases(store, now=after(63))
    assert len(store.list_rollouts(CHAT)) == 2


def ended(store: Store, state: RolloutState) -> None:
    revision = a_revision().evolve(study_id=StudyId("st-1"))
    registered(store, "/old", revision.model.path)
    move_alias(store, "llama", STABLE, "1", seen=None, actor="ann", now=NOW)
    register_service(store, a_spec(), actor="ann", now=NOW)
    store.add_revision(revision)
    rollout = a_rollout(canary=revision.revision_id, state=state, finished_at=after(10), reason="too slow")
    store.save_rollout(rollout, 0)


def test_a_bad_version_leaves_the_alias_and_its_reason_stands_in_the_lineage(store: Store) -> None:
    ended(store, RolloutState.ABORTED)
    note_promotions(store, noted=set(), now=after(11))
    assert store.get_model("llama").value.aliases[STABLE].version == 1
    assert "too slow" in [each.reason for each in lineage(store, "llama")]


def test_an_alias_that_somebody_moved_after_a_promotion_stays(store: Store) -> None:
    ended(store, RolloutState.PROMOTED)
    move_alias(store, "llama", STABLE, "1", seen=1, actor="ann", now=after(20))
    note_promotions(store, noted=set(), now=after(21))
    assert store.get_model("llama").value.aliases[STABLE].version == 1


def test_the_last_good_revision_is_the_one_that_served_before(store: Store) -> None:
    service = register_service(store, a_spec(), actor="ann", now=NOW)
    with pytest.raises(NotFound, match="no earlier revision to go back to"):
        last_good(store, CHAT)
    before = a_revision().evolve(revision_id=RevisionId("rev-before"))
    store.add_revision(before)
    assert service.stable is not None
    rollout = a_rollout(canary=service.stable, stable=before.revision_id, state=RolloutState.PROMOTED)
    store.save_rollout(rollout, 0)
    assert last_good(store, CHAT) == before
