"""What wants an engine: a service's revision, a study's trial, or a replay's shadow. Written down as a path.

Kept as text in records and answers (`rollout/chat/chat-1a2b`), so what was written by an earlier version can be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from controlplane.domain.base import RevisionId, ServiceName, StudyId


@dataclass(frozen=True)
class ReplicaOwner:
    """A replica that serves live traffic."""

    service: ServiceName
    revision: RevisionId

    def __str__(self) -> str:
        return f"rollout/{self.service}/{self.revision}"


@dataclass(frozen=True)
class TrialOwner:
    """An engine that a tuner worker measures."""

    study_id: StudyId
    number: int

    def __str__(self) -> str:
        return f"trial/{self.study_id}/{self.number}"


@dataclass(frozen=True)
class ReplayOwner:
    """The shadow of one replay of a service."""

    service: ServiceName
    number: int

    def __str__(self) -> str:
        return f"replay/{self.service}/{self.number}"


Owner = ReplicaOwner | TrialOwner | ReplayOwner


def parse_owner(text: str) -> Owner:
    """Return the owner with this path. Raises ValueError for any other text."""
    match text.split("/"):
        case ["rollout", service, revision] if service and revision:
            return ReplicaOwner(ServiceName(service), RevisionId(revision))
        case ["trial", study, number] if study and number.isdecimal():
            return TrialOwner(StudyId(study), int(number))
        case ["replay", service, number] if service and number.isdecimal():
            return ReplayOwner(ServiceName(service), int(number))
        case _:
            raise ValueError(f"'{text}' owns no engine: rollout/SERVICE/REVISION, trial/STUDY/N or replay/SERVICE/N")


def _owner(given: object) -> Owner:
    if isinstance(given, ReplicaOwner | TrialOwner | ReplayOwner):
        return given
    return parse_owner(str(given))


OwnerField = Annotated[
    Owner,
    PlainValidator(_owner),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["rollout/chat/chat-1a2b3c", "trial/chat-1/7", "replay/chat/3"]}),
]
"""The field of a value: an Owner in memory, its path in JSON."""
