"""The registry's variants of the served version, tried as alternatives of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.engines.engine import ENGINE, EngineConfig
from controlplane.domain.errors import InvalidInput
from controlplane.domain.models import ModelVersion, RegisteredModel
from controlplane.domain.studies.study import Study
from controlplane.services.rollouts.manage import with_alternatives
from controlplane.services.studies.manage import create_study
from tests.unit.studies.study_world import SPACE, World, service_spec
from tuner.space.first_tier import space_for

VARIANTS = [
    {"name": "awq", "source": "llama-1b"},
    {"name": "gguf", "source": "/models/llama-8b.gguf"},
]


def world_of(folder: Path, *, variants: list[dict[str, str]] | None = None, **tuning: Any) -> World:
    spec = service_spec(tuning={"space": SPACE, "budget": {"engine_starts": 10}, "variants": True, **tuning})
    world = World(folder, spec=spec)
    if variants is not None:
        raw = {"number": 1, "source": "llama-8b", "variants": variants}
        version = ModelVersion.model_validate(raw | {"registered_at": world.clock(), "registered_by": "me"})
        world.store.save_model(RegisteredModel(name="llama", versions=(version,)), 0)
    return world


def created(world: World) -> Study:
    return create_study(world.store, service=world.spec.service, actor="me", now=world.clock())


def test_variants_that_the_engine_reads_are_alternatives_of_the_study_alone(tmp_path: Path) -> None:
    world = world_of(tmp_path, variants=VARIANTS)
    study = created(world)
    assert {name: each.path for name, each in study.spec.alternatives.items()} == {"awq": "llama-1b"}
    assert not world.store.get_service(world.spec.service).value.spec.alternatives
    space = space_for(study.spec, study.baseline)
    assert {config.alternative for config in map(space.config, space.points())} == {None, "awq"}


def test_what_a_study_recommends_of_a_variant_can_be_rolled_out(tmp_path: Path) -> None:
    world = world_of(tmp_path, variants=VARIANTS)
    study = created(world)
    served = with_alternatives(world.store, world.spec, study.study_id).served_by(EngineConfig(flags={ENGINE: "awq"}))
    assert (served.model.path, served.model.name) == ("llama-1b", "llama-8b")


def test_without_asking_for_them_no_variant_is_tried(tmp_path: Path) -> None:
    assert not created(_quiet(tmp_path)).spec.alternatives


def _quiet(folder: Path) -> World:
    world = world_of(folder, variants=VARIANTS)
    service = world.store.get_service(world.spec.service)
    spec = world.spec.evolve(tuning=world.spec.tuning.evolve(variants=False))
    world.store.save_service(service.value.evolve(spec=spec), service.version)
    return world


@pytest.mark.parametrize(
    ("variants", "says"),
    [
        (None, r"needs a registered model.*llama-8b is the source of no version"),
        ([], r"finds none to try.*--variant NAME=PATH"),
        (VARIANTS[1:], r"no other variant of llama-8b is one that emulator reads"),
    ],
)
def test_what_cannot_be_tried_is_said(tmp_path: Path, variants: list[dict[str, str]] | None, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        created(world_of(tmp_path, variants=variants))
