"""`--set flag=value` as every command reads it."""

from __future__ import annotations

from controlplane.domain.engines.flags import FlagValue, number_or_text
from controlplane.domain.errors import InvalidInput


def parse_flags(texts: list[str]) -> dict[str, FlagValue]:
    """Return `flag=value` texts as flags: true/false, whole and decimal numbers, else text. Raises InvalidInput."""
    found: dict[str, FlagValue] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InvalidInput(f"--set {text!r} is no flag", allowed="--set flag=value")
        found[name] = _value(value)
    return found


def _value(text: str) -> FlagValue:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return number_or_text(text)
