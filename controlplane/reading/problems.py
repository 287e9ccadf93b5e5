"""What pydantic found wrong, in the words of somebody who wrote a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from controlplane.domain.base import Value
from controlplane.reading.nearest import unknown_field


def describe(error: ValidationError, model: type[Value] | None = None) -> str:
    """Return every problem of a validation error as `field: message`, one after the other.

    With the `model` that was validated, an unknown field is answered with the one that was probably meant.
    """
    problems = error.errors(include_url=False)
    schema = None if model is None else model.model_json_schema()
    return "; ".join(f"{_place(each)}: {_reason(each, schema)}" for each in problems if not _follows(each, problems))


def _follows(problem: Any, others: Sequence[Any]) -> bool:
    """Say whether a list is only too short because an item of it is wrong."""
    at = problem["loc"]
    return problem["type"] == "too_short" and any(other["loc"][: len(at)] == at != other["loc"] for other in others)


def _place(problem: Any) -> str:
    return ".".join(str(part) for part in problem["loc"]) or "(whole file)"


def _reason(problem: Any, schema: Mapping[str, Any] | None) -> str:
    if problem["type"] == "extra_forbidden":
        return "unknown field" if schema is None else unknown_field(schema, problem["loc"])
    message: str = problem["msg"]
    return message.removeprefix("Value error, ")
