"""What an answer says, streamed or not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from controlplane.gateway.answers.entry import Entry
from controlplane.gateway.sse import as_mapping


def text_of(entry: Entry) -> str:
    """Return what an answer of chat or completions says; empty when it says nothing."""
    if not entry.events:
        return _said(entry.body, "message")
    lines = (line[5:].strip() for line in entry.body.splitlines() if line.startswith(b"data:"))
    return "".join(_said(line, "delta") for line in lines if line != b"[DONE]")


def _said(body: bytes, where: str) -> str:
    try:
        choices = as_mapping(json.loads(body)).get("choices")
    except (ValueError, RecursionError):
        return ""
    several = choices if isinstance(choices, list) else ()
    given = [_text(as_mapping(choice), where) for choice in several]
    return "".join(text for text in given if isinstance(text, str))


def _text(choice: Mapping[str, Any], where: str) -> object:
    return choice.get("text") if "text" in choice else as_mapping(choice.get(where)).get("content")
