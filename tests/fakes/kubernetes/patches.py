"""JSON merge patches (RFC 7386) and JSON patches (RFC 6902): add, remove, replace and test."""

from __future__ import annotations

from typing import Any

from tests.fakes.kubernetes.errors import ApiError


def merge_patched(value: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    merged = dict(value) if isinstance(value, dict) else {}
    for name, each in patch.items():
        if each is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patched(merged.get(name), each)
    return merged


def json_patched(value: Any, patch: Any) -> Any:
    for step in patch:
        *way, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
        at = value
        for part in way:
            at = at[int(part)] if isinstance(at, list) else at[part]
        _do(at, last, step)
    return value


def _do(at: Any, last: str, step: Any) -> None:
    place: Any = last if isinstance(at, dict) else len(at) if last == "-" else int(last)
    match step["op"]:
        case "add" if isinstance(at, list):
            at.insert(place, step["value"])
        case "add" | "replace":
            at[place] = step["value"]
        case "remove":
            del at[place]
        case "test":
            if at[place] != step["value"]:
                raise ApiError(422, f"the test of {step['path']} failed")
        case other:
            raise ApiError(422, f"operation {other} is not known")
