"""Where an answer's texts lie: in an event of a stream, and in a body of one piece."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Name = tuple[Any, ...]
"""Which of an answer's texts a piece belongs to."""

_NO_TEXTS = frozenset(
    {"id", "object", "type", "role", "model", "finish_reason", "stop_reason", "name", "call_id", "item_id", "signature"}
    | {"system_fingerprint", "service_tier", "status", "request_id", "tool_use_id"}
)
_WRITTEN_JSON = frozenset({"arguments", "partial_json"})
_LONG_NUMBER = 10**12
_DELTAS = ("content", "reasoning_content", "reasoning", "refusal")
_OF_TOKENS = ("logprobs", "token_ids", "prompt_logprobs", "prompt_token_ids")
"""They say the text once more, token by token."""


class Place(NamedTuple):
    """One piece of text in a parsed event or body: `holder[key]`."""

    name: Name
    holder: Any
    key: Any
    written_json: bool
    choice: Any = None  # which answer of several
    around: Any = None  # what may say the text by tokens too

    @property
    def text(self) -> str:
        return str(self.holder[self.key])

    def put(self, text: str) -> None:
        """Replace the text, and leave out what says it by tokens."""
        self.holder[self.key] = text
        for name in _OF_TOKENS if isinstance(self.around, dict) else ():
            if self.around.get(name) is not None:
                self.around[name] = None


def places_of_event(event: Mapping[str, Any]) -> Iterator[Place]:
    """Return the pieces that an event adds to its answer's texts: of OpenAI's and of Anthropic's protocols."""
    choices = event.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            yield from _of_choice(choice)
    kind, delta = event.get("type"), event.get("delta")
    if isinstance(kind, str) and isinstance(delta, str):
        name = (kind, *(_plain(event.get(each)) for each in ("item_id", "output_index", "content_index")))
        yield Place(name, event, "delta", "arguments" in kind, around=event)
    elif kind == "content_block_delta" and isinstance(delta, dict):
        for key in ("text", "thinking", "partial_json"):
            if isinstance(delta.get(key), str):
                yield Place((_plain(event.get("index")), key), delta, key, key in _WRITTEN_JSON)


def texts_within(value: Any, key: Any = None) -> Iterator[Place]:
    """Return every text of a whole answer, or of an event that says one whole; keys and names of things are none."""
    if isinstance(value, dict):
        for name, each in value.items():
            if _says(each):
                if name not in _NO_TEXTS:
                    yield Place((), value, name, name in _WRITTEN_JSON)
            elif name not in _OF_TOKENS:
                yield from texts_within(each, name)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            if _says(each):
                yield Place((), value, index, key in _WRITTEN_JSON)
            else:
                yield from texts_within(each, key)


def _says(value: object) -> bool:
    """A text, or a number as long as a card's: a tool may be given one."""
    return isinstance(value, str) or (isinstance(value, int) and value >= _LONG_NUMBER)


def without_tokens(value: Any) -> None:
    """Leave out what says a changed answer by tokens too, wherever it lies."""
    if isinstance(value, dict):
        for name, each in value.items():
            if name in _OF_TOKENS and each is not None:
                value[name] = None
            else:
                without_tokens(each)
    elif isinstance(value, list):
        for each in value:
            without_tokens(each)


def ended_choices(event: Mapping[str, Any]) -> list[Any]:
    """Return the numbers of the answers that an event ends."""
    choices = event.get("choices")
    given = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    return [_plain(choice.get("index")) for choice in given if choice.get("finish_reason") is not None]


def _plain(value: object) -> Any:
    """Return what may be part of a name: an engine may write anything."""
    return value if isinstance(value, str | int | None) else repr(value)


def _of_choice(choice: dict[str, Any]) -> Iterator[Place]:
    index, delta = _plain(choice.get("index")), choice.get("delta")
    if isinstance(choice.get("text"), str):
        yield Place((index, "text"), choice, "text", False, index, choice)
    if not isinstance(delta, dict):
        return
    for key in _DELTAS:
        if isinstance(delta.get(key), str):
            yield Place((index, key), delta, key, False, index, choice)
    calls = delta.get("tool_calls")
    given = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    called = [(_plain(call.get("index")), call.get("function")) for call in given]
    for number, function in [*called, ("old", delta.get("function_call"))]:
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            yield Place((index, "tool", number), function, "arguments", True, index, choice)
