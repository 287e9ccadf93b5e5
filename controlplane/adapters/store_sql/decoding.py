"""A kept document back to its value."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from controlplane.domain.base import Value
from controlplane.domain.errors import Unavailable

V = TypeVar("V", bound=Value)


def decode(model: type[V], document: str) -> V:
    """Raises Unavailable when the document was not written by this version of Fleetune, or is damaged."""
    try:
        return model.model_validate_json(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "document"
        raise Unavailable(
            f"a stored {model.__name__.lower()} cannot be read",
            why=f"{place}: {first['msg']}",
            allowed="a store written by this version of Fleetune",
        ) from error
