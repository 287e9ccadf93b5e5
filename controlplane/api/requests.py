"""What a caller sends. Closed to unknown fields like every value of the domain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from controlplane.domain.base import RevisionId, ServiceName, StudyId, Value
from controlplane.domain.door.identity import Grant
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.operations.what_if import WhatIf
from controlplane.domain.report import LoadTestReport
from controlplane.domain.rollouts.rollout_options import RolloutOptions
from controlplane.domain.schedule import ScheduleSpec
from controlplane.domain.service import Name
from controlplane.domain.studies.tuning_options import Budget


class Reason(Value):
    """Why somebody acts: kept in the audit."""

    reason: str = Field(default="", max_length=500, examples=["wrong hour for it"])


class Resumption(Reason):
    """A paused study goes on as it is; one that is done with a larger budget."""

    budget: Budget | None = Field(default=None, description="Of a study that is done: what it may use in all.")


class NewStudy(Value):
    service: Name
    apply_when_done: bool = Field(default=False, description="Start the canary when the study recommends something.")
    overrides: dict[str, Any] | None = Field(
        default=None,
        description="Laid over `tuning` of the service for this study only.",
        examples=[{"budget": {"engine_starts": 6}}],
    )
    warm_start: Name | None = Field(
        default=None, description="An earlier study of this service whose capacities are a prior of the search."
    )


class NewRollout(Value):
    service: Name
    """Either `changes`, laid over the flags that are stable, or `flags`, which are all flags of a replica."""

    changes: Mapping[str, FlagValue | None] | None = Field(
        default=None,
        description="Laid over the flags that are stable; null takes a flag away.",
        examples=[{"max-num-seqs": 512, "kv-cache-dtype": "fp8"}],
    )
    flags: Mapping[str, FlagValue] | None = Field(default=None, description="All flags of a replica.")
    replicas: int | None = Field(default=None, ge=1, description="Once promoted; None: as many as serve now.")
    reason: str = Field(default="", max_length=500, description="Why; kept in the audit.")
    options: RolloutOptions | None = Field(default=None, description="None: the service's own steps.")
    study_id: StudyId | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.changes is None) == (self.flags is None):
            raise ValueError("give either changes, laid over the stable flags, or flags, which are all of them")
        return self


class NewSchedule(Value):
    service: Name
    schedule: ScheduleSpec


class NewLoadReport(Value):
    report_id: str = Field(pattern=r"^[A-Za-z0-9._-]{1,80}$")
    service: Name | None = None
    report: LoadTestReport


class Replicas(Value):
    replicas: int = Field(ge=0)


class RollBack(Value):
    revision: RevisionId | None = Field(default=None, description="None: the one that served before.")
    replicas: int | None = Field(default=None, ge=1, description="None: as many as it last had.")
    at_once: bool = Field(default=False, description="All traffic as soon as its replicas are ready, unjudged.")


class NewKeyName(Grant):
    name: str = Field(examples=["grafana"])


class Overlap(Value):
    overlap_s: float = Field(default=86_400, ge=0, le=30 * 86_400, description="How long the old secret works on.")


class Question(WhatIf):
    service: Name


def service_name(name: str | None) -> ServiceName | None:
    """Return an optional query parameter as what the store takes."""
    return None if name is None else ServiceName(name)
