"""Jobs at times: 're-tune every Sunday 02:00'."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from croniter import croniter
from pydantic import AwareDatetime, Field, field_validator

from controlplane.domain.base import ServiceName, StudyId, Value


class ScheduledAction(StrEnum):
    TUNE = "tune"
    TUNE_AND_APPLY = "tune_and_apply"


class ScheduleSpec(Value):
    """What a user writes: a name, five cron fields (UTC) and an action."""

    name: str = Field(pattern=r"^[a-z0-9-]{1,40}$")
    cron: str = Field(examples=["0 2 * * SUN"], description="Five cron fields, UTC.")
    action: ScheduledAction = ScheduledAction.TUNE
    paused: bool = False

    @field_validator("cron")
    @classmethod
    def _valid(cls, cron: str) -> str:
        if len(cron.split()) != 5 or not croniter.is_valid(cron):
            raise ValueError(f"'{cron}' is not five valid cron fields, e.g. '0 2 * * SUN'")
        return cron

    def next_after(self, moment: datetime) -> datetime:
        """Return the first firing strictly after `moment` (aware, UTC)."""
        upcoming: datetime = croniter(self.cron, moment).get_next(datetime)
        return upcoming


class Schedule(Value):
    """A schedule of a service with its memory. A firing missed while the controller was down fires once, late."""

    service: ServiceName
    spec: ScheduleSpec
    next_at: AwareDatetime
    last_at: AwareDatetime | None = None
    last_study: StudyId | None = None
