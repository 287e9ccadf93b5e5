"""Which field was meant by an unknown one: the allowed names at its place, the nearest first."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_SIMILAR = 0.7  # "colour" is 0.62 of "rollout": a wrong guess is more confusing than the list


def unknown_field(schema: Mapping[str, Any], place: Sequence[str | int]) -> str:
    """Return what to say of a field that `schema` (a JSON Schema) does not have at `place`.

    `place` is the path of the field as pydantic tells it: names, indices of lists, and tags of unions.
    """
    *above, name = place
    allowed = sorted({each for part in _at(schema, schema, above) for each in part.get("properties", {})})
    near = difflib.get_close_matches(str(name).lower(), allowed, n=1, cutoff=_SIMILAR)
    if near:
        return f"unknown field, did you mean {near[0]}?"
    return f"unknown field, allowed: {', '.join(allowed)}" if allowed else "unknown field"


def _at(root: Mapping[str, Any], schema: Mapping[str, Any], place: Sequence[str | int]) -> Iterator[Mapping[str, Any]]:
    """Yield every object schema that may stand at `place`: several where a union allows several."""
    for part in _alternatives(root, schema):
        if not place:
            yield part
            continue
        inner = _inside(part, place[0])
        # A tag of a union is part of the path and no field of any schema: stay, and go on with the next part.
        yield from _at(root, part if inner is None else inner, place[1:])


def _inside(schema: Mapping[str, Any], step: str | int) -> Mapping[str, Any] | None:
    if isinstance(step, int):
        items: Any = schema.get("items")
        return items if isinstance(items, Mapping) else None
    found: Any = schema.get("properties", {}).get(step, schema.get("additionalProperties"))
    return found if isinstance(found, Mapping) else None


def _alternatives(root: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "$ref" in schema:
        yield from _alternatives(root, root["$defs"][str(schema["$ref"]).rsplit("/", 1)[-1]])
        return
    choices = [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]
    if not choices:
        yield schema
    for each in choices:
        yield from _alternatives(root, each)
