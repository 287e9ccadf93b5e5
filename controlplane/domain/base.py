"""What every value of the domain shares: frozen, closed to unknown fields, changed only into a new validated value."""

from __future__ import annotations

from typing import Any, NewType, Self

from pydantic import BaseModel, ConfigDict

StudyId = NewType("StudyId", str)
TrialId = NewType("TrialId", str)
RevisionId = NewType("RevisionId", str)
RolloutId = NewType("RolloutId", str)
EngineId = NewType("EngineId", str)
ServiceName = NewType("ServiceName", str)


class Value(BaseModel):
    """A frozen value; unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with `changes`, validated again (unlike pydantic's `model_copy(update=...)`)."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self).model_validate(fields | changes)
