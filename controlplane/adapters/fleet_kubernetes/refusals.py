"""What a refusal of the server means: an error of the domain that says who refused, and what would help. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from kubernetes.client.exceptions import ApiException

from controlplane.domain.errors import (
    Conflict,
    FleetuneError,
    Forbidden,
    InvalidInput,
    NotFound,
    Refused,
    StaleVersion,
    Unavailable,
)

_MANAGER = re.compile(r'conflict with "([^"]+)"')
_NO_RIGHT = re.compile(r"\bcannot (\w+) resource\b")
_UNTYPED = "failed to create typed patch object"  # answered with 500, though it is the object that is wrong
_NO_NAMESPACE = re.compile(r'namespaces "([^"]+)" not found')
NO_DRY_RUN = "does not support dry run"
"""Said for a webhook of the cluster's that may not be asked without storing: what it thinks is told by a real write."""
_AHEAD = "ResourceVersionTooLarge"
_LONGEST_TEXT = 300


class Expired(Exception):
    """The version to go on from is not remembered any more, or not yet: what is known is to be listed anew."""


class Asked(NamedTuple):
    """What was asked of the server: a verb on an object, or on all of a kind."""

    verb: str
    plural: str
    named: str


def refusal(error: ApiException, asked: Asked) -> FleetuneError:
    """Return what a refusal means. Raises Expired for 410, and for a version from before the store was put back."""
    status, said = _status(error)
    what = f"cannot {asked.verb} {asked.named}"
    if error.status == 410 or any(cause.get("reason") == _AHEAD for cause in _causes(status)):
        raise Expired(said) from error
    if error.status == 409:
        return _conflict(what, status, said)
    if error.status == 401:
        return Refused(what, why="the cluster refuses these credentials", allowed="a kubeconfig that is valid")
    if error.status == 403:
        return _forbidden(what, status, said, plural=asked.plural)
    if error.status == 404:
        return _missing(what, said, plural=asked.plural)
    is_invalid = error.status in (400, 413, 415, 422) or _UNTYPED in said
    return InvalidInput(what, why=said) if is_invalid else Unavailable(what, why=said)


def refused_watch(status: Mapping[str, Any]) -> ApiException:
    """Return the refusal that a running watch was told."""
    return ApiException(status=status.get("code"), reason=status.get("reason"), body=json.dumps(status))


def short(error: Exception) -> str:
    """Return the first line of an error, in a length fit for a message."""
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__


def _conflict(what: str, status: Mapping[str, Any], said: str) -> FleetuneError:
    causes = [cause for cause in _causes(status) if cause.get("reason") == "FieldManagerConflict"]
    if not causes:
        return StaleVersion(what, why=said)
    found = [f"{cause.get('field')} is set by {_by(cause.get('message', ''))}" for cause in causes]
    return Conflict(what, why="; ".join(found), allowed="let one of the two set it: nothing is taken over by force")


def _forbidden(what: str, status: Mapping[str, Any], said: str, *, plural: str) -> FleetuneError:
    """A server says 403 of four different things: a quota, a namespace that goes, a missing right, a policy.

    Which right is missing the server knows: an apply that makes an object needs `create` beside `patch`. A quota that
    was just made is not counted yet: its status is unknown for a moment.
    """
    if "exceeded quota" in said or "status unknown for quota" in said:
        return Unavailable(what, why=said, allowed="a larger ResourceQuota, or fewer GPUs")
    if any(cause.get("reason") == "NamespaceTerminating" for cause in _causes(status)):
        return Unavailable(what, why=said, allowed="a namespace that is not being deleted")
    if (right := _NO_RIGHT.search(said)) is not None:
        return Forbidden(what, why=said, allowed=f"a Role with verb {right[1]} on {plural}")
    return InvalidInput(what, why=said, allowed="what the policies of the cluster admit")


def _missing(what: str, said: str, *, plural: str) -> FleetuneError:
    """What is asked about is not there, or the namespace that it was to be put into."""
    if plural != "namespaces" and (namespace := _NO_NAMESPACE.fullmatch(said)) is not None:
        return Unavailable(what, why=said, allowed=f"kubectl create namespace {namespace[1]}")
    return NotFound(what, why=said)


def _causes(status: Mapping[str, Any]) -> list[Mapping[str, str]]:
    return list((status.get("details") or {}).get("causes") or [])


def _by(message: str) -> str:
    found = _MANAGER.search(message)
    return message if found is None else found[1]


def _status(error: ApiException) -> tuple[Mapping[str, Any], str]:
    """Return a refusal as an object and in words. An overloaded server and an unknown path answer in plain text."""
    text = str(error.body or "").strip()
    try:
        status = json.loads(text)
    except ValueError:
        status = None
    if not isinstance(status, dict):
        is_short = text and "\n" not in text and len(text) <= _LONGEST_TEXT
        return {}, text if is_short else f"{error.status} {error.reason}"
    return status, str(status.get("message") or error.reason)
