"""Flags as the words of an engine's command line."""

from __future__ import annotations

from controlplane.domain.engines.driver import FlagStyle
from controlplane.domain.engines.flags import FlagValue, argument


def spelled(name: str, value: FlagValue, style: FlagStyle) -> tuple[str, ...]:
    """Return a flag as this kind of engine takes it; no word for a False that it cannot be told."""
    if value is False and not style.negated:
        return ()
    if style.joined or isinstance(value, bool):
        return argument(_word(name, style), value)
    return spelled_text(name, str(value), style)


def spelled_text(name: str, text: str, style: FlagStyle) -> tuple[str, ...]:
    """Return a flag whose value is one text, whatever is in it."""
    word = f"--{_word(name, style)}"
    return (f"{word}={text}",) if style.joined else (word, text)


def _word(name: str, style: FlagStyle) -> str:
    word = style.names.get(name, name)
    return word.replace("-", "_") if style.underscores else word
