"""Where an answer's texts lie: in an event of a stream, and in a body of one piece."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Name = tuple[Any, ...]
"""Which of an answer's texts a piece belongs to."""

_NO_TEXTS = frozenset(
    {"id", "object", "type", "role", "model", "finish_reason", "stop_reason", "name", "call_id", "item_id", "signature"}
    | {"system_fingerprint", "service_tier", "status", "request_id", "tool_use_id"}
)
_WRITTEN_JSON = frozenset({"arguments", "partial_json"})
_LONG_NUMBER = 10**12
_DELTAS = frozenset({"content", "reasoning_content", "reasoning", "refusal"})
_OF_TOKENS = ("logprobs", "token_ids", "prompt_logprobs", "prompt_token_ids")
"""They say the text once more, token by token."""

_Plain = str | int | None


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


def places_of_event(event: Mapping[str, Any]) -> list[Place]:
    """Return the pieces that an event adds to its answer's texts: of OpenAI's and of Anthropic's protocols."""
    found: list[Place] = []
    for choice in _choices(event):
        _of_choice(choice, found)
    kind = event.get("type")
    if isinstance(kind, str):
        found += _of_typed(kind, event)
    return found


def _of_typed(kind: str, event: Mapping[str, Any]) -> Iterator[Place]:
    delta = event.get("delta")
    if isinstance(delta, str):
        name = (kind, *(_plain(event.get(each)) for each in ("item_id", "output_index", "content_index")))
        yield Place(name, event, "delta", "arguments" in kind, around=event)
    elif kind == "content_block_delta" and isinstance(delta, dict):
        for key in ("text", "thinking", "partial_json"):
            if isinstance(delta.get(key), str):
                yield Place((_plain(event.get("index")), key), delta, key, key in _WRITTEN_JSON)


def texts_within(answer: dict[str, Any]) -> list[Place]:
    """Return every text of a whole answer, or of an event that says one whole; keys and names of things are none.

    A number as long as a card's is one too: a tool may be given it.
    """
    found: list[Place] = []
    holders: list[tuple[Any, Any]] = [(answer, None)]  # each with what it is called
    for holder, called in holders:
        for key, value in holder.items() if type(holder) is dict else enumerate(holder):
            kind = type(value)  # what JSON makes: no subclasses
            if kind is dict or kind is list:
                if key not in _OF_TOKENS:
                    holders.append((value, key if type(key) is str else called))
            elif (kind is str or (kind is int and value >= _LONG_NUMBER)) and key not in _NO_TEXTS:
                name = key if type(key) is str else called
                found.append(Place((), holder, key, name in _WRITTEN_JSON))
    return found


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
    return [_plain(choice.get("index")) for choice in _choices(event) if choice.get("finish_reason") is not None]


def _choices(event: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    choices = event.get("choices")
    if type(choices) is not list:  # what JSON makes: no subclasses
        return ()
    if len(choices) == 1 and type(choices[0]) is dict:
        return choices
    return [choice for choice in choices if isinstance(choice, dict)]


def _plain(value: object) -> Any:
    """Return what may be part of a name: an engine may write anything."""
    return value if type(value) is int or isinstance(value, _Plain) else repr(value)


def _of_choice(choice: dict[str, Any], found: list[Place]) -> None:
    index, delta = _plain(choice.get("index")), choice.get("delta")
    if isinstance(choice.get("text"), str):
        found.append(Place((index, "text"), choice, "text", False, index, choice))
    if not isinstance(delta, dict):
        return
    for key, text in delta.items():
        if key in _DELTAS and isinstance(text, str):
            found.append(Place((index, key), delta, key, False, index, choice))
    if "tool_calls" in delta or "function_call" in delta:
        found += _of_calls(index, delta, choice)


def _of_calls(index: Any, delta: dict[str, Any], choice: dict[str, Any]) -> Iterator[Place]:
    calls = delta.get("tool_calls")
    given = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    called = [(_plain(call.get("index")), call.get("function")) for call in given]
    for number, function in [*called, ("old", delta.get("function_call"))]:
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            yield Place((index, "tool", number), function, "arguments", True, index, choice)
