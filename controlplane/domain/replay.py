"""One replay among those of its schedule, and what was decided of it when it was made."""

from __future__ import annotations

from pydantic import Field

from controlplane.domain.base import ServiceName, Value


class ReplayPoint(Value):
    """Kept beside the replay's report: what a point of the series is, and its verdict."""

    service: ServiceName
    schedule: str
    number: int = Field(ge=1, description="Unique within the service.")
    regressed: bool = Field(description="Worse than the baseline, the last valid replay of this rate that was not.")
