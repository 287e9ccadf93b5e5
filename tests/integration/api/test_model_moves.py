"""Two people at one alias: the second is told by an exit code and one message. And what is said where nothing moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from controlplane.domain.models import CANDIDATE, RegisteredModel
from controlplane.ports.store import Versioned
from controlplane.services.fleet.serving import register_service
from controlplane.services.models import NewVersion, move_alias, register_version
from tests.builders_serving import NOW, a_spec
from tests.fakes.store import FakeStore


class Rival(FakeStore):
    """Right after the first look at a model somebody else acts."""

    act: Callable[[], object] | None = None

    def get_model(self, name: str) -> Versioned[RegisteredModel]:
        found = super().get_model(name)
        act, self.act = self.act, None
        if act is not None:
            act()
        return found


@pytest.fixture
def store() -> Rival:
    made = Rival()
    for source in ("org/a", "org/b"):
        register_version(made, "llama", NewVersion(source), actor="ann", now=NOW)
    return made


def test_who_moves_an_alias_that_was_moved_since_he_looked_ends_with_2_and_is_told_by_whom(
    run: Any, store: Rival
) -> None:
    store.act = lambda: move_alias(store, "llama", CANDIDATE, "1", seen=None, actor="bob", now=NOW)
    code, said = run("model", "alias", "llama", "candidate", "2")
    assert code == 2
    assert "the alias candidate of llama is not where you saw it: was moved to version 1 by bob" in said
    assert store.get_model("llama").value.aliases[CANDIDATE].version == 1
    assert run("model", "alias", "llama", "candidate", "2")[0] == 0, "who looked again may move it"


def test_who_registers_meanwhile_keeps_nobody_from_moving_an_alias(run: Any, store: Rival) -> None:
    store.act = lambda: register_version(store, "llama", NewVersion("org/c"), actor="bob", now=NOW)
    assert run("model", "alias", "llama", "candidate", "2")[0] == 0
    assert len(store.get_model("llama").value.versions) == 3


def test_a_version_that_is_served_already_is_not_said_to_go_out(run: Any, store: Rival) -> None:
    register_service(store, a_spec(), actor="ann", now=NOW)
    register_version(store, "llama", NewVersion(a_spec().model.path), actor="ann", now=NOW)
    assert "no canary, for it serves that already" in run("model", "serve", "llama", "3", "--service", "chat")[1]
    assert "org/b goes out as a canary" in run("model", "serve", "llama", "2", "--service", "chat")[1]
    code, said = run("roll-back", "chat")
    assert (code, "allowed: fleetune rollout abort chat-r1, which is pending" in said) == (2, True), said
