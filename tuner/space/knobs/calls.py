"""From an `add_argument` call, as source, to the flag it registers."""

from __future__ import annotations

import ast
from typing import Any

from tuner.space.knobs.schema import KnobFlag, KnobType


def explicit_flag(call: ast.Call) -> KnobFlag:
    """Return what the call's own words say: what they compute stays unknown."""
    options = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    action = ast.unparse(options["action"]) if "action" in options else ""
    return KnobFlag(
        type=_type(action, ast.unparse(options["type"]) if "type" in options else "str"),
        default=constant(options.get("default")),
        choices=constant(options.get("choices")),
        group="serve",
        optional=constant(options.get("default")) is None and "BooleanOptional" not in action,
    )


def _type(action: str, kind: str) -> KnobType:
    if "BooleanOptionalAction" in action:
        return KnobType.BOOL
    if "store_true" in action or "StoreTrue" in action:
        return KnobType.SWITCH
    return KnobType(kind) if kind in ("int", "float") else KnobType.STR


def constant(node: ast.expr | None) -> Any:
    """Return a value that is written down; None for one that is computed, or for no node."""
    if node is None:
        return None
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
