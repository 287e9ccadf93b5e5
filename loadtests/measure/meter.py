"""What a stream's events mean: which carry tokens, when the first and last came, how the stream ended. Pure.

A *token event* is a chunk that stands for generated tokens: of a completion every chunk with a choice (vLLM sends
empty text while a multi-byte character is incomplete); of a chat every chunk with a choice but the opening role when
it carries nothing else. A closing finish reason without text ends the request (vLLM sends it for the end-of-sequence
token) but is neither a gap nor a counted event. `[DONE]` ends the stream: what follows it is read and means nothing, as
in OpenAI's own clients. Tokens are counted by `usage` when the server sends it, else by token
ids, else one per token event.
"""

from __future__ import annotations

import json
from array import array
from typing import Any, TypeGuard

DONE = b"[DONE]"
_MOST_TOKENS = 1 << 31  # what claims more counts nothing


class TokenMeter:
    """Counts one stream. All times are nanoseconds of one clock."""

    __slots__ = (
        "_after",
        "_before",
        "_over",
        "coalesced",
        "counted_ids",
        "error",
        "events",
        "finished",
        "first_ns",
        "gaps_us",
        "last_ns",
        "usage_output",
        "usage_prompt",
    )

    def __init__(self) -> None:
        self.first_ns = 0
        self.last_ns = 0
        self.events = 0
        self.coalesced = 0  # token events that share the time stamp of the one before: read in one piece
        self.counted_ids = 0
        self.gaps_us = array("I")
        self.usage_output: int | None = None
        self.usage_prompt: int | None = None
        self.finished = False
        self.error: str | None = None
        self._over = False
        self._before = self._after = b""  # what surrounds the text of this stream's chunks

    @property
    def output_tokens(self) -> int:
        if self.usage_output is not None:
            return self.usage_output
        return self.counted_ids or self.events

    def take(self, kind: bytes, data: bytes, at_ns: int) -> None:
        """Take one event that arrived at `at_ns`. What makes no sense ends up in `error`, never in a count."""
        if self.take_plain(data, at_ns):
            return
        if self._over:
            return
        if data == DONE:
            self._end()
            return
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError):
            self.error = self.error or "protocol"
            return
        if not isinstance(chunk, dict):
            self.error = self.error or "protocol"
        elif kind == b"error" or chunk.get("error"):
            self.error = self.error or "stream_error"
        else:
            self._take_chunk(chunk, at_ns)
            if self.error is None:
                self._learn(data, chunk)

    def _end(self) -> None:
        self.finished = self._over = True
        self._before = self._after = b""  # no later chunk is like one before

    def take_plain(self, data: bytes, at_ns: int) -> bool:
        """Take a chunk like the ones before; False, and nothing taken, for any other."""
        if self._is_like_the_last(data):
            self._count_event(at_ns)
            return True
        return False

    def take_whole(self, body: bytes) -> None:
        """Take a body that was not a stream: only its usage, and whether it is JSON at all."""
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            self.error = self.error or "protocol"
            return
        if answer.get("error"):
            self.error = self.error or "stream_error"
        self._take_usage(answer.get("usage"))
        self.finished = True

    def _take_chunk(self, chunk: dict[str, Any], at_ns: int) -> None:
        if chunk.get("usage"):
            self._take_usage(chunk["usage"])
        if isinstance(chunk.get("token"), dict):
            self._take_tgi(chunk, at_ns)
        choices = chunk.get("choices")
        if not choices:
            return
        choice = choices[0] if isinstance(choices, list) else None
        if not isinstance(choice, dict):
            self.error = self.error or "protocol"
            return
        if _carries_tokens(choice):
            self._count(choice, at_ns)
        if choice.get("finish_reason"):
            self.finished = True
            self.last_ns = max(self.last_ns, at_ns)

    def _take_tgi(self, chunk: dict[str, Any], at_ns: int) -> None:
        """Take a chunk of TGI's own route: one token each; the last one tells how many, and no end mark follows."""
        self._count_event(at_ns)
        if chunk.get("generated_text") is None:
            return
        self.finished = True
        details = chunk.get("details")
        if isinstance(details, dict):
            self._take_usage({"completion_tokens": details.get("generated_tokens")})

    def _count(self, choice: dict[str, Any], at_ns: int) -> None:
        ids = choice.get("token_ids")
        if isinstance(ids, list):
            self.counted_ids += len(ids)
        self._count_event(at_ns)

    def _count_event(self, at_ns: int) -> None:
        if self.events:
            gap_ns = at_ns - self.last_ns
            self.gaps_us.append(gap_ns // 1000 if gap_ns > 0 else 0)
            self.coalesced += gap_ns <= 0
        else:
            self.first_ns = at_ns
        self.last_ns = at_ns
        self.events += 1

    def _is_like_the_last(self, data: bytes) -> bool:
        """Say whether this chunk differs from one that was parsed only in a text without quote, backslash or line end.

        Then it is valid JSON of the same meaning and need not be parsed: most chunks of most engines.
        """
        before, after = self._before, self._after
        if not before or not data.startswith(before) or not data.endswith(after):
            return False
        text = data[len(before) : len(data) - len(after)]
        return bool(text) and b'"' not in text and b"\\" not in text and b"\n" not in text

    def _learn(self, data: bytes, chunk: dict[str, Any]) -> None:
        """Remember what surrounds the text, if the chunk means exactly one plain token event."""
        text = _only_text(chunk)
        if text is None:
            return
        quoted = b'"' + text.encode() + b'"'
        if data.count(quoted) == 1:
            before, _, after = data.partition(quoted)
            self._before, self._after = before + b'"', b'"' + after

    def _take_usage(self, usage: Any) -> None:
        if not isinstance(usage, dict):
            return
        output, prompt = usage.get("completion_tokens"), usage.get("prompt_tokens")
        if _is_count(output):
            self.usage_output = output
        if _is_count(prompt):
            self.usage_prompt = prompt


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= _MOST_TOKENS


def _carries_tokens(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return "text" in choice and not (choice.get("finish_reason") and _is_empty(choice))
    if any(delta.get(field) for field in ("content", "reasoning", "reasoning_content", "tool_calls", "refusal")):
        return True
    if choice.get("token_ids"):
        return True
    return not delta.get("role") and not choice.get("finish_reason") and delta.get("content") is not None


def _is_empty(choice: dict[str, Any]) -> bool:
    return not choice["text"] and not choice.get("token_ids")


def _only_text(chunk: dict[str, Any]) -> str | None:
    """Return the text of a chunk that says nothing else: one choice, no usage, ids, role or end."""
    choices = chunk.get("choices")
    if chunk.get("usage") or not isinstance(choices, list) or len(choices) != 1:
        return None
    choice = choices[0]
    if choice.get("finish_reason") or choice.get("token_ids"):
        return None
    delta = choice.get("delta")
    text = choice.get("text") if delta is None else delta.get("content") if set(delta) == {"content"} else None
    return text if isinstance(text, str) and text and text.isascii() else None
