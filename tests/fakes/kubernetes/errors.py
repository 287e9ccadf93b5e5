"""How a server says no: a `Status` object with a code, a reason and, for conflicts of owners, its causes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.fakes.kubernetes.schemas import Flaw, Resource

_REASONS = {
    400: "BadRequest",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}


class ApiError(Exception):
    """One refusal."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        reason: str | None = None,
        causes: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason or _REASONS[code]
        self.causes = causes
        self.headers = headers or {}

    def status(self) -> Mapping[str, Any]:
        details = {"details": {"causes": list(self.causes)}} if self.causes else {}
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
            **details,
        }


def not_found(resource: Resource, name: str) -> ApiError:
    return ApiError(404, f'{resource.full_name} "{name}" not found')


def stale(resource: Resource, name: str) -> ApiError:
    return ApiError(
        409,
        f'Operation cannot be fulfilled on {resource.full_name} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again",
    )


def terminating(resource: Resource, namespace: str, name: str) -> ApiError:
    why = f"unable to create new content in namespace {namespace} because it is being terminated"
    causes = [{"reason": "NamespaceTerminating", "message": f"namespace {namespace} is being terminated", "field": ""}]
    return ApiError(403, f'{resource.full_name} "{name}" is forbidden: {why}', causes=causes)


def invalid(resource: Resource, name: str, found: Sequence[Flaw]) -> ApiError:
    said = ", ".join(f"{flaw.path.lstrip('.')}: {flaw.message}" for flaw in found[:5])
    causes = [{"reason": "FieldValueInvalid", "message": flaw.message, "field": flaw.path} for flaw in found]
    return ApiError(422, f'{resource.kind}.{resource.group} "{name}" is invalid: {said}', causes=causes)
