"""What a study is going to do with its budget, as shown before its first engine starts and while it goes on."""

from __future__ import annotations

from pydantic import Field

from controlplane.domain.base import Value


class PlanStage(Value):
    """One part of a study: what it may start, and how long that is expected to take one after the other."""

    name: str
    engine_starts: int = Field(ge=0)
    expected_s: float = Field(ge=0)


class StudyPlan(Value):
    """The stages in their order. Starts that nothing needs in the end are not made."""

    stages: tuple[PlanStage, ...]
    note: str | None = Field(default=None, description="What the budget does not hold, and which one does.")

    @property
    def engine_starts(self) -> int:
        return sum(stage.engine_starts for stage in self.stages)

    @property
    def expected_s(self) -> float:
        return sum(stage.expected_s for stage in self.stages)
