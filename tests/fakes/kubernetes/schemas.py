"""What each kind looks like: the schemas of a real server, walked for unknown fields, wrong types and list keys."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema

Json = Any
Object = dict[str, Any]
_FILE = Path(__file__).parent / "schemas" / "kubernetes-1.36.json.gz"
_REF = "#/components/schemas/"
_MICRO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


class Resource(NamedTuple):
    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    schema: str
    subresources: Sequence[str]
    custom: bool = False

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def full_name(self) -> str:
        """As messages of the server name it: `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


class Flaw(NamedTuple):
    """One thing wrong with an object; `unknown` fields are refused only when asked to be strict."""

    path: str
    message: str
    unknown: bool = False


@cache
def _document() -> Mapping[str, Json]:
    found: Mapping[str, Json] = json.loads(gzip.decompress(_FILE.read_bytes()))
    return found


@cache
def resources() -> Sequence[Resource]:
    return tuple(Resource(**each) for each in _document()["resources"])


def resource_of(api_version: str, kind: str) -> Resource:
    return next(each for each in resources() if (each.api_version, each.kind) == (api_version, kind))


def schema_of(resource: Resource) -> Json:
    return {"$ref": f"{_REF}{resource.schema}"}


def resolved(schema: Json) -> tuple[str, Json]:
    """Return a schema and its name, through references and a single `allOf`."""
    name = ""
    while True:
        if "$ref" in schema:
            name = schema["$ref"].removeprefix(_REF)
            schema = _document()["components"][name]
        elif len(schema.get("allOf", ())) == 1 and "$ref" in schema["allOf"][0]:
            outer = {key: value for key, value in schema.items() if key.startswith("x-kubernetes")}
            name = schema["allOf"][0]["$ref"].removeprefix(_REF)
            schema = {**_document()["components"][name], **outer}
        else:
            return name, schema


def flaws(value: Object, resource: Resource) -> Sequence[Flaw]:
    """Return what a server would not decode: unknown fields and wrong types, not what values mean."""
    return list(_walk(value, schema_of(resource), ""))


def broken_rules(value: Object, resource: Resource) -> Sequence[Flaw]:
    """Return the violated rules of a schema (required fields, ranges, patterns), as validation would: 422."""
    found = _validator(resource.schema).iter_errors(value)
    return [Flaw("." + ".".join(map(str, error.absolute_path)), error.message) for error in found]


def pruned(value: Json, schema: Json) -> Json:
    """Return a value without the fields that its schema does not know: what a server keeps that was not strict."""
    _, known = resolved(schema)
    if isinstance(value, list) and "items" in known:
        return [pruned(each, known["items"]) for each in value]
    if not isinstance(value, dict) or known.get("x-kubernetes-preserve-unknown-fields"):
        return value
    kept = {name: each for name, each in value.items() if each is not None}  # null is the same as not said
    return {name: pruned(each, of) for name, each in kept.items() if (of := _field(known, name)) is not None}


@cache
def _plain_components() -> Json:
    return _without(_document()["components"])


@cache
def _validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({"$ref": f"{_REF}{name}", "components": {"schemas": _plain_components()}})


def _without(schema: Json, *, names: bool = False) -> Json:
    """Return a schema that jsonschema reads as a server does: quantities and int-or-strings are either.

    With `names` the keys are names of fields, not words of a schema. Patterns of Go that Python does not know are left.
    """
    if isinstance(schema, list):
        return [_without(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if not names and schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    kept = schema if names else {k: v for k, v in schema.items() if k not in ("default", "format") and _known(k, v)}
    return {key: _without(value, names=key == "properties" and not names) for key, value in kept.items()}


def _known(word: str, value: Json) -> bool:
    if word != "pattern":
        return True
    try:
        re.compile(value)
    except re.error:
        return False
    return True


def _field(schema: Json, name: str) -> Json | None:
    if name in schema.get("properties", {}):
        return schema["properties"][name]
    more = schema.get("additionalProperties")
    if isinstance(more, dict):
        return more
    open_ended = more is True or schema.get("x-kubernetes-preserve-unknown-fields") or "properties" not in schema
    return {} if open_ended else None


def _walk(value: Json, schema: Json, path: str) -> Iterator[Flaw]:
    name, schema = resolved(schema)
    if value is None:
        return
    if name.endswith(".MicroTime") or name.endswith("v1.Time"):
        yield from _time(value, path, micro=name.endswith(".MicroTime"))
        return
    wrong = _type_flaw(value, schema, path)
    if wrong is not None:
        yield wrong
    elif isinstance(value, dict):
        for key, each in value.items():
            of = _field(schema, key)
            if of is None:
                yield Flaw(
                    f"{path}.{key}", f'unknown field "{path.lstrip(".")}{"." if path else ""}{key}"', unknown=True
                )
            else:
                yield from _walk(each, of, f"{path}.{key}")
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from _walk(each, schema.get("items", {}), f"{path}[{place}]")


def _time(value: Json, path: str, *, micro: bool) -> Iterator[Flaw]:
    form, layout = (_MICRO, "2006-01-02T15:04:05.000000Z07:00") if micro else (_TIME, "2006-01-02T15:04:05Z07:00")
    if not isinstance(value, str) or not form.fullmatch(value):
        yield Flaw(path, f'parsing time "{value}" as "{layout}": cannot parse')


def _type_flaw(value: Json, schema: Json, path: str) -> Flaw | None:
    if "oneOf" in schema or schema.get("x-kubernetes-int-or-string") or "anyOf" in schema:
        return None if not isinstance(value, dict | list) else Flaw(path, "cannot unmarshal a structure into a scalar")
    types: dict[str, Any] = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "integer": int,
        "number": (int, float),
    }
    wanted = schema.get("type")
    if wanted not in types:
        return None
    fits = isinstance(value, types[wanted]) and (wanted == "boolean" or not isinstance(value, bool))
    return None if fits else Flaw(path, f"cannot unmarshal {type(value).__name__} into field {path} of type {wanted}")
