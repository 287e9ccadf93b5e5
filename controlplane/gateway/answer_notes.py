"""What is noted of an answer beyond its tokens: why it stopped, whether it was declined, whether its tool calls hold.

Arguments of tool calls are held until the answer is over, to see whether they are JSON; only counts leave this file.
What is held of an answer is bounded, whatever an engine writes.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

LARGEST_ARGUMENTS = 1 << 20
"""Bytes of the names and arguments of all calls of an answer; those that go beyond it count as broken, as no engine's
are meant to be."""

MOST_CALLS = 1024
"""Calls of an answer that are told apart; further ones are not counted."""

_STOPS: Mapping[str, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    # Anthropic's `/v1/messages`
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    # OpenAI's `/v1/responses`
    "completed": "stop",
    "max_output_tokens": "length",
}
_DECLINED = "content_filter"
_NO_TOOLS: frozenset[str] = frozenset()


class AnswerNotes:
    """Notes of one answer, whole or piece by piece."""

    def __init__(self) -> None:
        self.stop: str | None = None
        self.declined = False
        self.model: str | None = None  # whose answer it says it is
        self._calls: dict[object, _ToolCall] = {}
        self._size = 0  # bytes of what they say

    def stopped(self, reason: object) -> None:
        """Note why the answer stopped, in any of the protocols' words."""
        if isinstance(reason, str):
            self.stop = _STOPS.get(reason, "other")
            self.declined = self.declined or self.stop == _DECLINED

    def named(self, model: object) -> None:
        """Note whose answer it says it is; the first to say so counts."""
        if self.model is None and isinstance(model, str) and model:
            self.model = model

    def choice(self, choice: Mapping[str, Any]) -> None:
        """Note what a choice of chat completions says, a whole one or a piece."""
        self.stopped(choice.get("finish_reason"))
        said = choice.get("delta") or choice.get("message")
        if not isinstance(said, dict):
            return
        self.declined = self.declined or bool(said.get("refusal"))
        calls = said.get("tool_calls")
        if not isinstance(calls, list):
            return
        for place, call in enumerate(calls):
            if isinstance(call, dict):
                self._tool_call((choice.get("index"), call.get("index", place)), call.get("function"))

    @property
    def tool_calls(self) -> int:
        return len(self._calls)

    def bad_tool_calls(self, tools: Collection[str]) -> int:
        """Return how many calls name none of the tools given, or have arguments that are no JSON object."""
        return sum(not call.holds(tools) for call in self._calls.values())

    def _tool_call(self, name: object, function: object) -> None:
        if not isinstance(function, dict) or (name not in self._calls and len(self._calls) >= MOST_CALLS):
            return
        call = self._calls.setdefault(name, _ToolCall())
        self._size += call.add(function.get("name"), function.get("arguments"), LARGEST_ARGUMENTS - self._size)


class _ToolCall:
    def __init__(self) -> None:
        self._name = b""
        self._arguments = bytearray()  # a list of small pieces takes thirty times what is in them
        self._broken = False

    def add(self, name: object, arguments: object, most: int) -> int:
        """Take a piece of at most so many bytes; return how many it had, or none where they were too many."""
        named, more = (
            each.encode("utf-8", "surrogatepass") if isinstance(each, str) else b"" for each in (name, arguments)
        )
        if self._broken or len(named) + len(more) > most:
            self._broken = True
            return 0
        self._name += named
        self._arguments += more
        return len(named) + len(more)

    def holds(self, tools: Collection[str]) -> bool:
        if self._broken or self._name.decode("utf-8", "surrogatepass") not in tools:
            return False
        try:
            return isinstance(json.loads(self._arguments), dict)
        except (ValueError, RecursionError):
            return False


def notes_of(answer: Mapping[str, Any]) -> AnswerNotes:
    """Return what a whole answer says."""
    notes = AnswerNotes()
    notes.named(answer.get("model"))
    for choice in _objects(answer.get("choices")):
        notes.choice(choice)
    notes.stopped(answer.get("stop_reason"))
    notes.stopped(_response_stop(answer))
    return notes


def _response_stop(answer: Mapping[str, Any]) -> object:
    """Return why an answer of `/v1/responses` stopped."""
    if answer.get("object") != "response":
        return None
    details = answer.get("incomplete_details")
    return details.get("reason") if isinstance(details, dict) else answer.get("status")


def tool_names(fields: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the functions that a request of chat completions lets the model call."""
    if not fields.get("tools"):
        return _NO_TOOLS
    named = ((tool.get("function") or {}).get("name") for tool in _objects(fields.get("tools")) if _has_function(tool))
    return frozenset(name for name in named if isinstance(name, str))


def _has_function(tool: Mapping[str, Any]) -> bool:
    return isinstance(tool.get("function"), dict)


def _objects(value: object) -> Sequence[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else ()
