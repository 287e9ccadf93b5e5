"""What is noted of an answer beyond its tokens: why it stopped, whether it was declined, whether its tool calls hold.

Arguments of tool calls are held until the answer is over, to see whether they are JSON; only counts leave this file.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

LARGEST_ARGUMENTS = 1 << 20
"""Characters of one call's arguments; beyond it they count as broken, which no engine's are meant to be."""

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
        if isinstance(function, dict):
            self._calls.setdefault(name, _ToolCall()).add(function.get("name"), function.get("arguments"))


class _ToolCall:
    def __init__(self) -> None:
        self._name = ""
        self._arguments: list[str] = []
        self._size = 0

    def add(self, name: object, arguments: object) -> None:
        self._name += name if isinstance(name, str) else ""
        if isinstance(arguments, str) and self._size <= LARGEST_ARGUMENTS:
            self._size += len(arguments)
            self._arguments.append(arguments)

    def holds(self, tools: Collection[str]) -> bool:
        if self._name not in tools or self._size > LARGEST_ARGUMENTS:
            return False
        try:
            return isinstance(json.loads("".join(self._arguments)), dict)
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
