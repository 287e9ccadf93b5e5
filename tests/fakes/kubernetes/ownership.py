"""Server-side apply: who owns which field, what an applied object changes, and what conflicts.

After https://kubernetes.io/docs/reference/using-api/server-side-apply/ and structured-merge-diff: a set of fields is a
set of paths; a step is a field name, or the keys of an item of a list that is a map. Atomic lists and maps are leaves.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tests.fakes.kubernetes.errors import ApiError
from tests.fakes.kubernetes.schemas import Json, Object, resolved

Path = tuple[str, ...]
"""Steps as `fieldsV1` writes them: `f:spec`, `k:{"name":"engine"}`, `v:"value"`, and `.` for the item itself."""
Fields = frozenset[Path]
_OF_SERVER = {
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
}


class Clash(NamedTuple):
    """A field of the applied object that somebody else owns, with another value."""

    path: Path
    manager: str
    subresource: str
    api_version: str


def fields_of(value: Object, schema: Json) -> Fields:
    """Return the paths that an object sets; what the server itself sets is not among them."""
    metadata = {k: v for k, v in value.get("metadata", {}).items() if k not in _OF_SERVER}
    shown = {k: v for k, v in value.items() if k not in ("apiVersion", "kind", "metadata")}
    return frozenset(_paths({**shown, **({"metadata": metadata} if metadata else {})}, schema, ()))


def _paths(value: Json, schema: Json, here: Path) -> Iterator[Path]:
    _, schema = resolved(schema)
    if isinstance(value, dict) and value and not _is_atomic(schema):
        for name, each in value.items():
            yield from _paths(each, _child(schema, name), (*here, f"f:{name}"))
    elif isinstance(value, list) and value and schema.get("x-kubernetes-list-type") in ("map", "set"):
        for each in value:
            step = _step(each, schema)
            yield (*here, step) if step.startswith("v:") else (*here, step, ".")
            if step.startswith("k:"):
                yield from _paths(each, schema["items"], (*here, step))
    elif here:
        yield here


def _is_atomic(schema: Json) -> bool:
    return bool(schema.get("x-kubernetes-map-type") == "atomic")


def _child(schema: Json, name: str) -> Json:
    more = schema.get("additionalProperties")
    return schema.get("properties", {}).get(name, more if isinstance(more, dict) else {})


def _step(item: Json, schema: Json) -> str:
    if schema["x-kubernetes-list-type"] == "set":
        return f"v:{json.dumps(item)}"
    _, of = resolved(schema["items"])
    keys = {name: item.get(name, _child(of, name).get("default")) for name in schema["x-kubernetes-list-map-keys"]}
    return "k:" + json.dumps({name: key for name, key in keys.items() if key is not None}, separators=(",", ":"))


def duplicates(value: Json, schema: Json, here: str = "") -> Iterator[str]:
    """Yield the items of lists with keys that are said twice, as a server names them."""
    _, schema = resolved(schema)
    if isinstance(value, dict):
        for name, each in value.items():
            yield from duplicates(each, _child(schema, name), f"{here}.{name}")
    elif isinstance(value, list) and schema.get("x-kubernetes-list-type") in ("map", "set"):
        steps = [_step(each, schema) for each in value]
        for step in sorted({step for step in steps if steps.count(step) > 1}):
            yield f"{here}: duplicate entries for key {spoken((step,))}"
        for step, each in zip(steps, value, strict=True):
            yield from duplicates(each, schema.get("items", {}), f"{here}{spoken((step,))}")


def value_at(value: Json, schema: Json, path: Path) -> Json:
    """Return what is at a path, None when nothing is; an item's `.` is whether it is there."""
    _, schema = resolved(schema)
    if not path:
        return value
    if path[0] == ".":
        return True
    if isinstance(value, dict):
        return value_at(value.get(path[0][2:]), _child(schema, path[0][2:]), path[1:])
    if isinstance(value, list):
        found = next((each for each in value if _step(each, schema) == path[0]), None)
        return found if path[0].startswith("v:") else value_at(found, schema["items"], path[1:]) if found else None
    return None


def clashes(live: Object, applied: Object, schema: Json, *, manager: str, subresource: str) -> Sequence[Clash]:
    """Return every field that is owned by another manager and that the applied object would change."""
    wanted = fields_of(applied, schema)
    return [
        Clash(path, entry["manager"], entry.get("subresource", ""), entry["apiVersion"])
        for entry in live["metadata"].get("managedFields", [])
        if not _is_mine(entry, manager, subresource)
        for path in sorted(_read(entry["fieldsV1"]) & wanted)
        if path[-1] != "." and value_at(live, schema, path) != value_at(applied, schema, path)
    ]


def applied_to(live: Object, applied: Object, schema: Json, *, manager: str, subresource: str) -> Object:
    """Return the live object with what is applied, without what this manager applied before and nobody else owns."""
    merged: Object = _merged(copy.deepcopy(live), applied, schema)
    entries = live["metadata"].get("managedFields", [])
    before = next((_read(e["fieldsV1"]) for e in entries if _is_mine(e, manager, subresource)), frozenset())
    others = frozenset[Path]().union(*(_read(e["fieldsV1"]) for e in entries if not _is_mine(e, manager, subresource)))
    gone = before - fields_of(applied, schema) - others
    # Items before their fields: nothing is left to look into once an item is gone.
    for path in sorted(gone, key=lambda each: (each[-1] != ".", -len(each))):
        _remove(merged, schema, path, keep=others)
    return merged


def owned(before: Object | None, after: Object, entries: Sequence[Json], schema: Json, entry: Json) -> list[Json]:
    """Return the managed fields after a write; `entry` has manager, operation, apiVersion, time and subresource.

    What changed belongs to the writer alone; what an apply names unchanged is shared.
    """
    now = fields_of(after, schema)
    then = frozenset[Path]() if before is None else fields_of(before, schema)
    changed = {
        path
        for path in now
        if path not in then or (before is not None and value_at(before, schema, path) != value_at(after, schema, path))
    }
    is_apply, mine = entry["operation"] == "Apply", frozenset(entry.pop("fields", changed))
    kept, added = [], False
    for each in entries:
        if _same_entry(each, entry):
            fields = mine if is_apply else (_read(each["fieldsV1"]) | changed) & now
            added = True
        else:
            fields = (_read(each["fieldsV1"]) & now) - changed
        if fields:
            kept.append({**(each | entry if _same_entry(each, entry) else each), "fieldsV1": _written(fields)})
    if not added and mine:
        kept.append({**entry, "fieldsType": "FieldsV1", "fieldsV1": _written(mine)})
    return kept


def _same_entry(entry: Json, other: Json) -> bool:
    names = ("manager", "operation", "subresource", "apiVersion")
    return all(entry.get(name) == other.get(name) for name in names)


def _is_mine(entry: Json, manager: str, subresource: str) -> bool:
    same = (entry["manager"], entry.get("subresource", "")) == (manager, subresource)
    return same and entry["operation"] == "Apply"


def _merged(live: Json, applied: Json, schema: Json) -> Json:
    _, schema = resolved(schema)
    if isinstance(applied, dict) and isinstance(live, dict) and not _is_atomic(schema):
        for name, each in applied.items():
            live[name] = _merged(live[name], each, _child(schema, name)) if name in live else copy.deepcopy(each)
        return live
    if isinstance(applied, list) and isinstance(live, list) and schema.get("x-kubernetes-list-type") in ("map", "set"):
        places = {_step(each, schema): place for place, each in enumerate(live)}
        for each in applied:
            place = places.get(_step(each, schema))
            if place is None:
                live.append(copy.deepcopy(each))
            else:
                live[place] = _merged(live[place], each, schema["items"])
        return live
    return copy.deepcopy(applied)


def _remove(value: Json, schema: Json, path: Path, *, keep: Fields, here: Path = ()) -> None:
    _, schema = resolved(schema)
    step, rest = path[0], path[1:]
    if isinstance(value, dict) and step[2:] in value:
        if rest:
            _remove(value[step[2:]], _child(schema, step[2:]), rest, keep=keep, here=(*here, step))
        else:
            del value[step[2:]]
    elif isinstance(value, list):
        place = next((n for n, each in enumerate(value) if _step(each, schema) == step), None)
        if place is None:
            return
        at = (*here, step)
        if not rest or (rest == (".",) and not any(each[: len(at)] == at for each in keep)):
            del value[place]
        elif rest != (".",):
            _remove(value[place], schema["items"], rest, keep=keep, here=at)


def _read(tree: Mapping[str, Any], here: Path = ()) -> Fields:
    found: set[Path] = set()
    for step, below in tree.items():
        found |= _read(below, (*here, step)) if below else {(*here, step)}
    return frozenset(found)


def _written(fields: Fields) -> Json:
    tree: dict[str, Any] = {}
    for path in sorted(fields):
        at = tree
        for step in path:
            at = at.setdefault(step, {})
    return tree


def spoken(path: Path) -> str:
    """Return a path as conflicts name it: `.spec.template.spec.containers[name="engine"].image`."""
    said = ""
    for step in path:
        if step.startswith("f:"):
            said += f".{step[2:]}"
        elif step.startswith("k:"):
            said += "[" + ",".join(f"{k}={json.dumps(v)}" for k, v in json.loads(step[2:]).items()) + "]"
        elif step.startswith("v:"):
            said += f"[={step[2:]}]"
    return said


def conflict(found: Sequence[Clash]) -> ApiError:
    """Return the refusal that names every clash."""

    def by(clash: Clash) -> str:
        sub = f' with subresource "{clash.subresource}"' if clash.subresource else ""
        return f'conflict with "{clash.manager}"{sub} using {clash.api_version}'

    said = "; ".join(f"{by(clash)}: {spoken(clash.path)}" for clash in found)
    causes = [{"reason": "FieldManagerConflict", "message": by(clash), "field": spoken(clash.path)} for clash in found]
    number = f"{len(found)} conflict{'s' if len(found) > 1 else ''}"
    return ApiError(409, f"Apply failed with {number}: {said}", causes=causes)
