"""From an alert to what is done about it: once per firing, with a pause in between and so many a day. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import AwareDatetime, Field

from controlplane.domain.base import Value
from controlplane.domain.operations.notify import NotifyTarget

DAY = timedelta(days=1)
_LONGEST_TEXT = 300
MOST_AT_ONCE = 1000
"""Alerts in one word of an Alertmanager."""
REMEMBERED = 2 * MOST_AT_ONCE
"""Of a service: what is sent again, all at once, is told once all the same."""


class AlertAction(StrEnum):
    """What an alert may lead to. To tell is an event; the others are events too."""

    TELL = "tell"
    SCALE_OUT = "scale_out"  # one replica more of stable, within its ceilings
    STUDY = "study"  # a pending study; nothing is applied by itself
    ABORT_ROLLOUT = "abort_rollout"  # of the one under way, unless its promotion has begun


class AlertOptions(Value):
    """What the alerts of a service lead to. Without a word here every alert is told and nothing else."""

    actions: Mapping[str, AlertAction] = Field(
        default_factory=dict, description="Alert name → action.", examples=[{"FleetuneQueueGrows": "scale_out"}]
    )
    built_in: bool = Field(default=True, description="Look for alerts without a Prometheus; False where one does.")
    usd_per_day: float | None = Field(default=None, gt=0, description="What runs may cost before it is told.")
    notify: tuple[NotifyTarget, ...] = Field(default=(), description="Who is told of alerts and of what followed.")
    dry_run: bool = Field(default=False, description="Say what would be done, do nothing.")
    pause_s: float = Field(default=1800, ge=0, description="Between two of the same action.")
    most_a_day: int = Field(default=6, ge=0, description="Actions of all kinds within 24 hours, telling not counted.")


class Alert(Value):
    """One alert as it fires or ends. Texts come from outside: kept short and in one line."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")
    key: str = Field(max_length=200, description="The same for every word about one firing.")
    service: str | None = Field(default=None, max_length=100)
    firing: bool
    severity: str = Field(default="", max_length=40)
    summary: str = Field(default="", max_length=_LONGEST_TEXT)


class Acted(Value):
    """What was done about one firing, so that it is not done again; and whether it is over."""

    at: AwareDatetime
    key: str
    action: AlertAction
    name: str = Field(default="", description="Of the alert; empty: kept by an earlier version.")
    severity: str = ""
    ended: bool = False


class Reaction(Value):
    """What an alert leads to now. `acts` False: only told, `reason` says why."""

    action: AlertAction
    acts: bool
    reason: str = ""


def one_line(text: str) -> str:
    """Return a text from outside as one short line without control characters."""
    printable = "".join(each if each.isprintable() else " " for each in text)
    return " ".join(printable.split())[:_LONGEST_TEXT]


def reaction(options: AlertOptions, alert: Alert, past: Sequence[Acted], now: datetime) -> Reaction | None:
    """Return what to do about one word of an alert; None when nobody need hear of it again."""
    if not alert.firing or any(each.key == alert.key for each in past):
        return None
    action = options.actions.get(alert.name, AlertAction.TELL)
    if action is AlertAction.TELL:
        return Reaction(action=action, acts=False)
    reason = _held_back(options, action, past, now)
    if not reason and options.dry_run:
        reason = "dry run"
    return Reaction(action=action, acts=not reason, reason=reason)


def over(alert: Alert, past: Sequence[Acted]) -> Acted | None:
    """Return the firing that this word ends; None: it still fires, was never told, or its end was."""
    if alert.firing:
        return None
    return next((each for each in past if each.key == alert.key and not each.ended), None)


def lasting(past: Sequence[Acted]) -> Mapping[str, datetime]:
    """Return the alerts that were told and are not over, and when each was told first."""
    found: dict[str, datetime] = {}
    for each in past:
        if each.name and not each.ended:
            found[each.name] = min(each.at, found.get(each.name, each.at))
    return found


def _held_back(options: AlertOptions, action: AlertAction, past: Sequence[Acted], now: datetime) -> str:
    done = [each for each in past if each.action is not AlertAction.TELL and each.at > now - DAY]
    if len(done) >= options.most_a_day:
        return f"{len(done)} actions within a day are enough"
    latest = max((each.at for each in done if each.action is action), default=None)
    if latest is not None and now - latest < timedelta(seconds=options.pause_s):
        return f"the last one was at {latest:%H:%M:%S} UTC, {options.pause_s:g} s lie between two"
    return ""


def remembered(past: Sequence[Acted], latest: Acted, now: datetime, *, most: int = REMEMBERED) -> tuple[Acted, ...]:
    """Return the past with one more, without what is older than a week, the newest `most` of it.

    What was done within a day stays, however many alerts came since: pauses and the day's limit count from it.
    """
    kept = [each for each in past if each.at > now - timedelta(days=7)]
    old, new = kept[: -(most - 1)], kept[-(most - 1) :]
    acts = [each for each in old if each.action is not AlertAction.TELL and each.at > now - DAY]
    return (*acts, *new, latest)
