"""An immutable pair of model and engine config, named by its content hash."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime, Field

from controlplane.domain.base import RevisionId, ServiceName, StudyId, Value
from controlplane.domain.engines.engine import EngineConfig, content_hash
from controlplane.domain.service import EngineOptions, ModelSpec


class Revision(Value):
    revision_id: RevisionId
    service: ServiceName
    model: ModelSpec
    engine: EngineOptions
    config: EngineConfig
    created_at: AwareDatetime
    study_id: StudyId | None = None
    start_budget_s: float | None = Field(
        default=None,
        gt=0,
        description="On a cluster: how long a start may take, by those seen when it was named; None: start_timeout_s.",
    )


def revision_id(service: ServiceName, model: ModelSpec, engine: EngineOptions, config: EngineConfig) -> RevisionId:
    """Return the name of a revision: equal content, equal name."""
    left_out: dict[str, Any] = {
        "flags": True,
        "flag_file": True,
        "emulator": {"max_lag_ms"},
        "mapping": {"compiles_at_first_use"},
    }  # none changes what starts
    # Revisions named before there was such an option keep their names.
    if engine.mapping is None:
        left_out["mapping"] = True
    if engine.emulator.first_use_s == 0:
        left_out["emulator"] = {"max_lag_ms", "first_use_s"}
    content = {
        "service": service,
        "model": model.model_dump(mode="json"),
        "engine": engine.model_dump(mode="json", exclude=left_out),
        "flags": dict(config.flags),
    }
    return RevisionId(f"rev-{content_hash(content)}")
