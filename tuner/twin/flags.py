"""Reading typed values from the flags of an engine config."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.errors import InvalidInput


class FlagReader:
    """Reads one config; every method raises InvalidInput naming the flag, its value and what is allowed."""

    def __init__(self, config: EngineConfig) -> None:
        self._flags = config.flags

    def given(self, name: str) -> bool:
        """Say whether the flag was written at all."""
        return name in self._flags

    def integer(self, name: str, *, default: int, low: int = 0) -> int:
        """Return a whole number of at least `low` (`auto` and absence give the default)."""
        value = self._flags.get(name, default)
        if value == "auto":
            return default
        try:
            number = human_readable(str(value))
        except ValueError:
            number = low - 1
        if isinstance(value, bool) or number < low:
            raise InvalidInput(f"{name} is {value!r}", allowed=f"a whole number, {low} or more")
        return number

    def is_auto_length(self) -> bool:
        """Say whether vLLM is to find the longest max-model-len that fits (`-1` or `auto`)."""
        return str(self._flags.get("max-model-len")) in ("-1", "auto")

    def number(self, name: str, *, default: float, low: float, high: float) -> float:
        """Return a number within [low, high]."""
        value = self._flags.get(name, default)
        try:
            number = float(str(value))
        except ValueError:
            number = float("nan")
        if isinstance(value, bool) or not low <= number <= high:
            raise InvalidInput(f"{name} is {value!r}", allowed=f"{low:g} to {high:g}")
        return number

    def boolean(self, name: str, *, default: bool) -> bool:
        """Return a switch given as `--flag`, `--no-flag` or `--flag=true`."""
        value = self._flags.get(name, default)
        known = {"true": True, "1": True, "false": False, "0": False}
        found = known.get(str(value).lower())
        if found is None:
            raise InvalidInput(f"{name} is {value!r}", allowed="true or false")
        return found

    def parts(self, name: str) -> dict[str, Any]:
        """Return the parts of a JSON flag, those written with a dot among them; none of a plain value."""
        whole = _decoded(name, self._flags.get(name, "{}"))
        found = dict(whole) if isinstance(whole, dict) else {}
        for flag, value in self._flags.items():
            if flag.startswith(f"{name}."):
                first, _, rest = flag.removeprefix(f"{name}.").partition(".")
                found[first] = {rest: value} if rest else _part(value)
        return found

    def words(self, name: str) -> list[str] | None:
        """Return the values of a flag that takes several; None when it was left out."""
        return str(self._flags[name]).split() if name in self._flags else None

    def choice(self, name: str, allowed: Sequence[str], *, default: str) -> str:
        """Return one of `allowed`."""
        value = str(self._flags.get(name, default))
        if value not in allowed:
            raise InvalidInput(f"{name} is {value!r}", allowed=", ".join(allowed))
        return value


def _part(value: FlagValue) -> Any:
    """vLLM reads a part as JSON, or else as text."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _decoded(name: str, value: FlagValue) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{name} is no JSON", why=str(error), allowed='such as {"key": value}') from error


def human_readable(text: str) -> int:
    """Return a whole number written as vLLM takes it: 8192, 32k (thousands), 32K (times 1024), 1.5m, 2G.

    Raises ValueError for anything else (`human_readable_int` of vLLM: a capital is binary and takes no fraction).
    """
    found = _NUMBER.fullmatch(text.strip())
    if found is None:
        return int(text)
    number, unit = float(found[1]), str(found[2])
    power = "kmgt".index(unit.lower()) + 1
    if unit.islower():
        return round(number * 1000.0**power)
    if not number.is_integer():
        raise ValueError(f"{text!r} has a fraction")
    return round(number * 1024.0**power)


_NUMBER = re.compile(r"(\d+(?:\.\d+)?)([kmgtKMGT])")
