"""Variants of the served model version, as alternatives of a study: what the registry knows is what may be tried."""

from __future__ import annotations

from collections.abc import Iterator

from controlplane.domain.engines.engine import EngineKind
from controlplane.domain.errors import InvalidInput
from controlplane.domain.models import ModelVersion
from controlplane.domain.service import Alternative, ServiceSpec
from controlplane.ports.store import Store

_GGUF = ".gguf"


def with_variants(store: Store, spec: ServiceSpec) -> ServiceSpec:
    """Return the service with the registry's variants of its model among its alternatives, where it asks for them.

    What `service.yaml` itself calls by a variant's name goes first. Raises InvalidInput when no registered version
    holds the model, or none of its variants is one that the engine reads.
    """
    if not spec.tuning.variants:
        return spec
    found = dict(_readable(spec, _version(store, spec)))
    if not found:
        raise InvalidInput(
            "tuning.variants finds none to try",
            why=f"no other variant of {spec.model.path} is one that {spec.engine.driver.title} reads",
            allowed="`fleetune model register … --variant NAME=PATH`; GGUF files for llama.cpp, folders for the others",
        )
    return spec.evolve(alternatives={**found, **spec.alternatives})


def _version(store: Store, spec: ServiceSpec) -> ModelVersion:
    for model in store.list_models():
        version = model.value.of_source(spec.model.path)
        if version is not None:
            return version
    raise InvalidInput(
        "tuning.variants needs a registered model",
        why=f"{spec.model.path} is the source of no version",
        allowed="`fleetune model register NAME PATH --variant fp8=PATH`",
    )


def _readable(spec: ServiceSpec, version: ModelVersion) -> Iterator[tuple[str, Alternative]]:
    for variant in version.variants:
        is_file = variant.source.endswith(_GGUF)
        if variant.source != spec.model.path and is_file == (spec.engine.kind is EngineKind.LLAMA_CPP):
            yield variant.name, Alternative(path=variant.source)
