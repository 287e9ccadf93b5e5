"""What wants an engine: a type in memory, a path where it is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from controlplane.domain.base import EngineId, RevisionId, ServiceName, StudyId
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.fleet import EngineSpec, EngineState
from controlplane.domain.owner import Owner, ReplayOwner, ReplicaOwner, TrialOwner, parse_owner

NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)
OWNERS: st.SearchStrategy[Owner] = st.one_of(
    st.builds(ReplicaOwner, NAMES.map(ServiceName), NAMES.map(RevisionId)),
    st.builds(TrialOwner, NAMES.map(StudyId), st.integers(0, 10**6)),
    st.builds(ReplayOwner, NAMES.map(ServiceName), st.integers(0, 10**6)),
)


def a_spec(owner: object) -> EngineSpec:
    return EngineSpec.model_validate(
        {
            "engine_id": EngineId("e-1"),
            "owner": owner,
            "kind": EngineKind.VLLM,
            "model": "m",
            "served_name": "m",
            "config": EngineConfig(),
            "gpus": 1,
        }
    )


@given(OWNERS)
def test_an_owner_is_itself_again_when_read_back(owner: Owner) -> None:
    spec = a_spec(owner)
    assert EngineSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.evolve(gpus=2).owner == owner
    assert parse_owner(str(owner)) == owner


def test_owners_of_two_kinds_are_never_the_same() -> None:
    alike: set[Owner] = {TrialOwner(StudyId("chat"), 1), ReplayOwner(ServiceName("chat"), 1)}
    assert len(alike) == 2


@pytest.mark.parametrize(
    "text", ["", "trial", "trial/s", "trial/s/x", "rollout//r", "replay/s/-1", "other/a/b", "trial/s/1/2"]
)
def test_any_other_path_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValidationError, match="rollout/SERVICE/REVISION"):
        a_spec(text)


def test_an_engine_is_over_when_nothing_of_it_is_left() -> None:
    assert {state for state in EngineState if state.is_over} == {EngineState.FAILED, EngineState.STOPPED}
