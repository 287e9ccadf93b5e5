"""How an answer ends."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Output(NamedTuple):
    """How one answer ends: after `tokens` tokens, for this reason."""

    tokens: int
    finish_reason: Literal["stop", "length", "abort", "tool_calls"]
    stop_reason: str | int | None = None
    characters: int | None = None
    """Length of the text when a stop string cuts it, None when all of it is said."""
