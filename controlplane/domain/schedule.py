"""Jobs at times: 're-tune every Sunday 02:00', 'replay every night and say when it got slower'."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time
from enum import StrEnum

from pydantic import AwareDatetime, Field, field_validator, model_validator

from controlplane.domain.base import EngineId, ServiceName, StudyId, Value
from controlplane.domain.workload import Workload

_ANY_DAY = datetime(2024, 1, 1, tzinfo=UTC)

REPLAY_LEASE_S = 30.0
"""A worker that runs a replay and has not said so for this long is lost."""


class ScheduledAction(StrEnum):
    TUNE = "tune"
    TUNE_AND_APPLY = "tune_and_apply"
    REPLAY = "replay"


class ReplayTarget(StrEnum):
    SHADOW = "shadow"  # an engine of the stable revision, started for this replay and stopped after it
    STABLE = "stable"  # a replica that serves live traffic too


class ReplaySpec(Value):
    """What is sent to one replica, for how long, and how much room it must leave to live traffic. Engine time."""

    target: ReplayTarget = ReplayTarget.SHADOW
    rate_rps: float = Field(gt=0)
    duration_s: float = Field(default=60, gt=0, le=3600)
    warmup_s: float = Field(default=5, ge=0)
    workload: Workload | None = Field(default=None, description="None: the service's own.")
    seed: int = 0
    capacity_rps: float | None = Field(
        default=None, gt=0, description="What one replica sustains, as tuning measured it; needed against stable."
    )
    headroom: float = Field(
        default=0.3, ge=0, lt=1, description="Share of the capacity that stays free, live included."
    )
    quiet_from: time | None = Field(default=None, description="UTC; nothing is sent outside these hours.")
    quiet_to: time | None = None

    @model_validator(mode="after")
    def _careful(self) -> ReplaySpec:
        if self.target is ReplayTarget.STABLE and self.capacity_rps is None:
            raise ValueError(
                "a replay against stable needs capacity_rps: without it nobody knows how much room there is"
            )
        if (self.quiet_from is None) != (self.quiet_to is None):
            raise ValueError("quiet_from and quiet_to belong together")
        return self

    def is_quiet(self, moment: datetime) -> bool:
        """Say whether `moment` (UTC) lies within the quiet hours; always, when none are set."""
        return within_hours(moment.time(), self.quiet_from, self.quiet_to)


def within_hours(at: time, start: time | None, end: time | None) -> bool:
    """Say whether a time of day lies in [start, end), which may span midnight; always, when there is no such span."""
    if start is None or end is None:
        return True
    return start <= at < end if start <= end else at >= start or at < end


class ScheduleSpec(Value):
    """What a user writes: a name, five cron fields (UTC) and an action."""

    name: str = Field(pattern=r"^[a-z0-9-]{1,40}$")
    cron: str = Field(examples=["0 2 * * SUN"], description="Five cron fields, UTC.")
    action: ScheduledAction = ScheduledAction.TUNE
    replay: ReplaySpec | None = Field(default=None, description="Only for action replay, and then needed.")
    paused: bool = False

    @field_validator("cron")
    @classmethod
    def _valid(cls, cron: str) -> str:
        from croniter import CroniterBadDateError, croniter  # every service has room for a schedule, few have one

        if len(cron.split()) != 5 or not croniter.is_valid(cron):
            raise ValueError(f"'{cron}' is not five valid cron fields, e.g. '0 2 * * SUN'")
        try:
            croniter(cron, _ANY_DAY).get_next()
        except CroniterBadDateError as error:
            raise ValueError(f"'{cron}' never comes: no year has such a day") from error
        return cron

    @model_validator(mode="after")
    def _whole(self) -> ScheduleSpec:
        if (self.action is ScheduledAction.REPLAY) != (self.replay is not None):
            raise ValueError("action replay and what to replay (`replay: {rate_rps: ...}`) belong together")
        return self

    def next_after(self, moment: datetime) -> datetime:
        """Return the first firing strictly after `moment` (aware, UTC)."""
        from croniter import croniter

        upcoming: datetime = croniter(self.cron, moment).get_next(datetime)
        return upcoming


class ReplayRun(Value):
    """A replay that is due: waiting for a worker, or (with one) running. Never run twice, whatever dies."""

    number: int = Field(ge=1)
    due_at: AwareDatetime
    worker: str | None = None
    heartbeat_at: AwareDatetime | None = None
    engine_id: EngineId | None = Field(default=None, description="The shadow, once a worker has it.")

    def is_lost(self, now: datetime) -> bool:
        """Say whether a worker took it and died."""
        beat = self.heartbeat_at
        return beat is not None and (now - beat).total_seconds() > REPLAY_LEASE_S


class Schedule(Value):
    """A schedule of a service with its memory. A firing missed while the controller was down fires once, late."""

    service: ServiceName
    spec: ScheduleSpec
    next_at: AwareDatetime
    last_at: AwareDatetime | None = None
    last_study: StudyId | None = None
    replay_run: ReplayRun | None = None

    def replay_progress(self, busy: Sequence[StudyId]) -> str | None:
        """Say what a due replay does or waits for, None when none is due; `busy` are the studies that run now."""
        run = self.replay_run
        if run is None:
            return None
        what = f"replay {run.number} of {self.service}/{self.spec.name}"
        if run.worker is not None:
            return f"{what} runs on {run.worker}"
        why = "no worker has taken it yet"
        if busy:
            why = f"a worker ends its study first, and {', '.join(busy)} is running; `fleetune up --workers N` has more"
        return f"{what} is due since {run.due_at:%Y-%m-%d %H:%M} UTC and waits: {why}"
