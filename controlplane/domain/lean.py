"""Values as they are noted with each request: the same fields and the same JSON, but not looked at once more.

What a process says of its own work is right already. Pydantic took a twentieth of a short answer to make and write a
record of it; readers, who cannot know who wrote a line, validate each.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import msgspec
from pydantic import BaseModel

V = TypeVar("V", bound=BaseModel)

_encoded = msgspec.json.Encoder().encode


def lean(value: type[V]) -> type[V]:
    """Return what holds a value's fields and answers its properties; nothing is validated, and nothing else is there.

    To who reads its fields it is the value. It is equal to another one of its own kind only.
    """
    fields = [
        (name, Any) if field.is_required() else (name, Any, field.get_default(call_default_factory=True))
        for name, field in value.model_fields.items()
    ]
    told = {name: each for name, each in vars(value).items() if isinstance(each, property)}
    made = msgspec.defstruct(f"Lean{value.__name__}", fields, frozen=True, kw_only=True, gc=False, namespace=told)
    return cast(type[V], made)


def in_json(value: BaseModel) -> bytes:
    """Return a value, lean or not, as pydantic writes it."""
    return value.model_dump_json().encode() if isinstance(value, BaseModel) else _encoded(value)
