"""What a pod, as the API server tells it, means for the engine in it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

COST = "controller.kubernetes.io/pod-deletion-cost"
"""The annotation that says which of several pods a cluster takes away first: the cheapest."""
OURS = ("engine", "generator")
"""Names of the containers that Fleetune starts."""
_SHORT = re.compile(r"Insufficient ([\w/-]+(?:\.[\w/-]+)*)")


class PodSight(NamedTuple):
    """One pod as last heard of."""

    name: str
    uid: str
    address: str | None
    node: str | None
    is_ready: bool
    is_over: bool  # its container will not run again
    restarts: int
    running_since: datetime | None
    waiting: str  # the reason its container does not run, "" when it does
    waiting_for: str  # in words
    exit_code: int | None  # of its container's last end
    ran_s: float | None  # how long it ran before
    exit_reason: str
    exit_message: str
    deleting_grace_s: float | None  # set: it is being deleted
    unplaced: str  # why no node takes it, "" when one did
    cost: str  # what it says it costs to take it away
    disruption: str  # why the cluster takes it away, "" when it does not


def sight_of(pod: Mapping[str, Any]) -> PodSight:
    """Read a pod with one container of ours. A mesh may have put others beside it, and statuses are by name."""
    metadata, status = pod["metadata"], pod.get("status", {})
    conditions = {each["type"]: each for each in status.get("conditions", [])}
    container = _ours(status.get("containerStatuses", []))
    state, ended = container.get("state", {}), _ended(container)
    waiting = state.get("waiting") or {}
    scheduled = conditions.get("PodScheduled", {})
    return PodSight(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        address=status.get("podIP"),
        node=pod["spec"].get("nodeName"),
        is_ready=conditions.get("Ready", {}).get("status") == "True",
        is_over=status.get("phase") in ("Failed", "Succeeded"),
        restarts=container.get("restartCount", 0),
        running_since=_time((state.get("running") or {}).get("startedAt")),
        waiting=waiting.get("reason", ""),
        waiting_for=": ".join(filter(None, [waiting.get("reason"), waiting.get("message")])),
        exit_code=ended.get("exitCode"),
        ran_s=_ran_s(ended),
        exit_reason=ended.get("reason") or status.get("reason", ""),
        exit_message=ended.get("message") or status.get("message", ""),
        deleting_grace_s=metadata.get("deletionGracePeriodSeconds", 0) if metadata.get("deletionTimestamp") else None,
        unplaced=scheduled.get("message", "") if scheduled.get("status") == "False" else "",
        cost=metadata.get("annotations", {}).get(COST, "0"),
        disruption=_said(conditions.get("DisruptionTarget", {})),
    )


def what_is_short(message: str) -> str:
    """Return what a scheduler's message lacks, in words: the resource, or that no node fits at all."""
    short = sorted(set(_SHORT.findall(message)))
    if short:
        return f"not enough {', '.join(short)}"
    if "didn't match" in message:
        return "no node has the labels of its node_selector"
    return "no node takes it"


def is_ready_node(node: Mapping[str, Any]) -> bool:
    """Say whether a node is there: what it last said of itself is that it is ready."""
    conditions = node.get("status", {}).get("conditions", [])
    return any((each["type"], each["status"]) == ("Ready", "True") for each in conditions)


def _ours(statuses: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    mine = (each for each in statuses if each.get("name") in OURS)
    return next(mine, next(iter(statuses), {}))


def _ended(container: Mapping[str, Any]) -> Mapping[str, Any]:
    now = container.get("state", {}).get("terminated")
    before = container.get("lastState", {}).get("terminated")
    found: Mapping[str, Any] = now or before or {}
    return found


def _ran_s(ended: Mapping[str, Any]) -> float | None:
    started, finished = _time(ended.get("startedAt")), _time(ended.get("finishedAt"))
    return None if started is None or finished is None else (finished - started).total_seconds()


def _said(condition: Mapping[str, Any]) -> str:
    if condition.get("status") != "True":
        return ""
    return ": ".join(filter(None, [condition.get("reason"), condition.get("message")]))


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)
