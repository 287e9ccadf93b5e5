"""Quantities as a server writes them back: `1000m` becomes `1`, `1024Gi` becomes `1Ti`, `0.5` becomes `500m`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from tests.fakes.kubernetes.schemas import Json, resolved

_QUANTITY = re.compile(r"([+-]?[0-9]*\.?[0-9]+)([KMGTPE]i|[numkMGTPE]?)")
_TENS = {"n": -3, "u": -2, "m": -1, "": 0, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_TWOS = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}


def canonical(value: Json, schema: Json) -> Json:
    """Return a value with every quantity in it as a server would write it."""
    name, known = resolved(schema)
    if name.endswith("resource.Quantity"):
        return _written(str(value))
    if isinstance(value, list):
        return [canonical(each, known.get("items", {})) for each in value]
    if not isinstance(value, dict):
        return value
    more, properties = known.get("additionalProperties"), known.get("properties", {})
    rest = more if isinstance(more, dict) else {}
    return {key: canonical(each, properties.get(key, rest)) for key, each in value.items()}


def _written(text: str) -> str:
    found = _QUANTITY.fullmatch(text)
    if found is None:
        return text
    number, unit = Decimal(found[1]), found[2]
    if unit in _TWOS:
        amount = number * 1024 ** _TWOS[unit]
        return _largest(amount, [(1024**power, name) for name, power in _TWOS.items()])
    return _largest(number * Decimal(1000) ** _TENS[unit], [(Decimal(1000) ** n, name) for name, n in _TENS.items()])


def _largest(amount: Decimal, units: list[tuple[Any, str]]) -> str:
    """Return an amount as a whole number of the largest unit that it is a multiple of."""
    fitting = [(size, name) for size, name in units if amount % size == 0]
    size, name = max(fitting, default=(1, ""))
    return f"{int(amount / size)}{name if amount else ''}"
