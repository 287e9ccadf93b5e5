"""Structured output: the smallest answer that a request's JSON schema, JSON mode or choice allows.

vLLM lets a grammar guide the model; here there is no model, so a value of the schema is made up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from controlplane.emulator.errors import ApiError, bad_request

_DEEPEST = 32


class JsonSchema(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")


class ResponseFormat(BaseModel):
    model_config = ConfigDict(extra="allow")
    type: Literal["text", "json_object", "json_schema", "structural_tag"]
    json_schema: JsonSchema | None = None


class StructuredOutputs(BaseModel):
    model_config = ConfigDict(extra="allow")
    json_: dict[str, Any] | str | None = Field(default=None, alias="json")
    json_object: bool | None = None
    choice: list[str] | None = None
    regex: str | None = None
    grammar: str | None = None
    structural_tag: str | None = None


def shaped_text(wanted: ResponseFormat | None, outputs: StructuredOutputs | None) -> str | None:
    """Return a text of the wanted shape, None when any will do. Raises ApiError for what is not emulated."""
    if outputs is not None:
        return _constrained(outputs)
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return _EXAMPLE
    if wanted.type == "structural_tag":
        raise _not_emulated("structural_tag")
    if wanted.json_schema is None:
        raise bad_request(
            "When response_format type is 'json_schema', the 'json_schema' field must be provided.", "response_format"
        )
    return json.dumps(example(wanted.json_schema.schema_ or {}))


_EXAMPLE = json.dumps({"answer": "text"})


def example(schema: Mapping[str, Any]) -> Any:
    """Return a small value that a JSON schema allows. Raises ApiError 400 for one that cannot be followed."""
    return _example(schema, schema, 0)


def _constrained(outputs: StructuredOutputs) -> str | None:
    if sum(one is not None for one in (outputs.json_, outputs.regex, outputs.choice)) > 1:
        raise bad_request(
            "You can only use one kind of constraints for structured outputs ('json', 'regex' or 'choice').",
            "structured_outputs",
        )
    for name in ("regex", "grammar", "structural_tag"):
        if getattr(outputs, name) is not None:
            raise _not_emulated(name)
    if outputs.choice:
        return outputs.choice[0]
    if outputs.json_ is not None:
        return json.dumps(example(_schema(outputs.json_)))
    return _EXAMPLE if outputs.json_object else None


def _schema(given: dict[str, Any] | str) -> dict[str, Any]:
    try:
        schema = json.loads(given) if isinstance(given, str) else given
    except ValueError as error:
        raise bad_request("Invalid JSON grammar specification.", "structured_outputs") from error
    return schema if isinstance(schema, dict) else {}


def _example(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    if depth > _DEEPEST:
        raise bad_request("a JSON schema that only ends in itself cannot be followed", "response_format")
    if "$ref" in schema:
        return _example(_found(str(schema["$ref"]), root), root, depth + 1)
    for fixed in ("const", "default"):
        if fixed in schema:
            return schema[fixed]
    if schema.get("enum"):
        return schema["enum"][0]
    for among in ("anyOf", "oneOf", "allOf"):
        if schema.get(among):
            return _example(schema[among][0], root, depth + 1)
    return _of_kind(_kind(schema), schema, root, depth)


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    return str(kind[0]) if isinstance(kind, list) and kind else str(kind)


def _of_kind(kind: str, schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    if kind == "object":
        fields = schema.get("properties", {})
        wanted = schema.get("required", fields)
        return {name: _example(fields.get(name, {}), root, depth + 1) for name in wanted}
    if kind == "array":
        return [_example(schema.get("items") or {}, root, depth + 1) for _ in range(int(schema.get("minItems", 1)))]
    if kind in ("integer", "number"):
        return schema.get("minimum", schema.get("maximum", 1))
    if kind == "boolean":
        return True
    return None if kind == "null" else "text".ljust(int(schema.get("minLength", 0)), "t")[: schema.get("maxLength")]


def _found(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        found = found.get(part) if isinstance(found, Mapping) and part else found
    if not isinstance(found, Mapping):
        raise bad_request(f"the JSON schema has no {reference}", "response_format")
    return found


def _not_emulated(name: str) -> ApiError:
    return bad_request(f"structured outputs by {name} are not emulated", "structured_outputs")
