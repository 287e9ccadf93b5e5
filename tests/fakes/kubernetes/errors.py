"""How a server says no: a `Status` object with a code, a reason and, for conflicts of owners, its causes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.fakes.kubernetes.schemas import Flaw, Resource

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
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
    504: "Timeout",
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
        plain: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason or _REASONS[code]
        self.causes = causes
        self.headers = headers or {}
        self.plain = plain  # said in plain text: by what stands before the API proper

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


def no_such_path() -> ApiError:
    return ApiError(404, "404 page not found", plain=True)


def too_new(version: int, newest: int) -> ApiError:
    """The version was given before the store was put back to an earlier day."""
    said = f"Timeout: Too large resource version: {version}, current: {newest}"
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version", "field": ""}]
    return ApiError(504, said, reason="Timeout", causes=causes)


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
