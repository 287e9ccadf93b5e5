"""Alternatives of a service beyond the search: who may write them, what they hide, what a revision of one is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from controlplane.cli.installation.hosts import require_engines
from controlplane.domain.authority import changed_code
from controlplane.domain.base import EngineId, StudyId
from controlplane.domain.engines.engine import ENGINE, EngineConfig, EngineKind
from controlplane.domain.errors import InvalidInput
from controlplane.domain.launch import engine_spec, serve_arguments
from controlplane.domain.masking import HIDDEN, masked, revealed
from controlplane.domain.owner import TrialOwner
from controlplane.domain.service import ServiceSpec
from controlplane.services.check_service import check_service
from controlplane.services.rollouts.manage import revision_of
from tests.builders_serving import a_spec

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = EngineConfig(flags={ENGINE: "sglang", "max-running-requests": 8})


def spec_of(engine: dict[str, Any] | None = None, **more: Any) -> ServiceSpec:
    other = {"engine": {"kind": "sglang", **(engine or {})}, **more}
    return ServiceSpec.model_validate(a_spec().model_dump(mode="json") | {"alternatives": {"sglang": other}})


@pytest.mark.parametrize(
    ("engine", "more", "field"),
    [
        ({"command": ["sh", "{port}", "{args}"]}, {}, "alternatives.sglang.engine.command"),
        ({"env": {"LD_PRELOAD": "x.so"}}, {}, "alternatives.sglang.engine.env.LD_PRELOAD"),
        ({"flags": {"trust-remote-code": True}}, {}, "alternatives.sglang.engine.flags.trust-remote-code"),
        (
            {},
            {"space": {"custom-weight-loader": {"choices": ["a.b"]}}},
            "alternatives.sglang.space.custom-weight-loader",
        ),
    ],
)
def test_what_runs_code_in_an_alternative_is_an_admins_to_change(
    engine: dict[str, Any], more: dict[str, Any], field: str
) -> None:
    assert changed_code(None, spec_of(engine, **more)) == (field,)
    assert changed_code(spec_of(engine, **more), spec_of(engine, **more)) == ()


def test_secrets_of_an_alternative_are_hidden_and_come_back() -> None:
    spec = spec_of({"flags": {"api-key": "planted"}, "env": {"TOKEN": "planted"}})
    shown = masked(spec.model_dump(mode="json"))
    assert "planted" not in str(shown)
    assert revealed(ServiceSpec.model_validate(shown), spec) == spec
    with pytest.raises(InvalidInput, match=r"alternatives\.sglang\.engine\.\w+.* cannot be") as caught:
        revealed(ServiceSpec.model_validate(shown), None)
    assert HIDDEN in str(caught.value)


def test_the_secrets_of_every_command_come_back() -> None:
    words = ["run", "--api-key", "planted", "{model}", "{name}", "{port}", "{args}"]
    mapping = {"title": "Own", "command": words, "readiness": {"health_path": "/health"}}
    spec = ServiceSpec.model_validate(
        spec_of().model_dump(mode="json")
        | {
            "engine": {"kind": "command", "command": words, "mapping": mapping, "env": {"TOKEN": "planted"}},
            "tuning": {"quality": {"command": ["score", "--token=planted", "{url}", "{model}"], "min_score": 0.5}},
            "ab_judge": {"command": ["judge", "HF_TOKEN=planted"], "tenants": ["red"]},
        }
    )
    shown = masked(spec.model_dump(mode="json"))
    assert "planted" not in str(shown)
    assert revealed(ServiceSpec.model_validate(shown), spec) == spec
    with pytest.raises(InvalidInput, match="cannot be"):
        revealed(ServiceSpec.model_validate(shown), None)


def test_a_revision_holds_the_engine_and_checkpoint_that_serve_it() -> None:
    spec = spec_of(path="/models/awq")
    revision = revision_of(spec, CONFIG, now=NOW)
    assert (revision.engine.kind, revision.model.path) == (EngineKind.SGLANG, "/models/awq")
    assert revision.model.name == spec.model.name
    elsewhere = revision_of(spec_of(path="/models/gptq"), CONFIG, now=NOW)
    assert revision.revision_id != elsewhere.revision_id
    assert revision.revision_id != revision_of(spec, EngineConfig(), now=NOW).revision_id


def test_no_engine_is_given_the_name_of_its_alternative() -> None:
    served = spec_of().served_by(CONFIG)
    spec = engine_spec(
        EngineId("e"),
        TrialOwner(StudyId("s"), 1),
        model=served.model,
        engine=served.engine,
        gpus=served.gpus,
        config=CONFIG,
    )
    assert spec.kind is EngineKind.SGLANG
    assert not [word for word in serve_arguments(spec) if word.startswith(f"--{ENGINE}")]


def test_base_flags_of_an_alternative_are_checked_by_its_own_engine() -> None:
    check_service(spec_of({"flags": {"max-running-requests": 8}}))
    with pytest.raises(InvalidInput, match="SGLang calls it --max-running-requests"):
        check_service(spec_of({"flags": {"max-num-seqs": 8}}))


@pytest.mark.parametrize("name", ["CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"])
def test_no_way_to_serve_names_its_gpus(name: str) -> None:
    engine = a_spec().engine
    with pytest.raises(InvalidInput, match=f"engine.env {name} cannot be set"):
        check_service(a_spec(engine=engine.evolve(env={name: "1"})))
    with pytest.raises(InvalidInput, match=f"engine.env {name} cannot be set"):
        check_service(spec_of({"env": {"PATH": "/bin", name: "1"}}))


def test_the_program_of_an_alternative_has_to_be_here_too() -> None:
    with pytest.raises(InvalidInput, match="SGLang is not installed here"):
        require_engines([spec_of()])
