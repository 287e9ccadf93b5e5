"""The audit: who did what to which thing, why and when. Append only, never any prompt text."""

from __future__ import annotations

from pydantic import AwareDatetime, Field

from controlplane.domain.base import Value


class Event(Value):
    at: AwareDatetime
    actor: str = Field(description="A key's name, 'cli', 'controller', 'schedule/<name>', 'worker/<id>'.")
    action: str = Field(examples=["rollout.step", "study.created", "engine.crashed"])
    subject: str = Field(examples=["rollout/r-123"])
    service: str | None = None
    reason: str = ""
    details: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
