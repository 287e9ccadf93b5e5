"""Watching a server-sent event stream while it is passed on: when tokens came, how many, and whether it ended well."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

LARGEST_EVENT_BYTES = 8 << 20


class StreamWatch:
    """Reads OpenAI-style events incrementally. Texts are looked at, never kept.

    Bytes are passed on unchanged, but only as whole events: a stream that is cut never leaves the client half an event
    in front of the error event.
    """

    def __init__(self) -> None:
        self.first_token_at: float | None = None
        self.last_token_at: float | None = None
        self.events = 0
        self.max_gap_s: float | None = None
        self.done = False  # [DONE] came
        self.finished = False  # a finish_reason came
        self.failed = False  # the engine itself reported an error in the stream
        self.usage: Mapping[str, Any] = {}
        self._rest = b""

    def feed(self, chunk: bytes, now: float) -> bytes:
        """Take what arrived at `now` (monotonic seconds) and return what may be passed on: every whole event."""
        data = self._rest + chunk if self._rest else chunk
        end = _end_of_events(data)
        if end == len(data):
            self._rest = b""
        elif len(data) - end > LARGEST_EVENT_BYTES:
            self._rest, end = b"", len(data)  # not worth holding: passed on unread
        else:
            self._rest, data = data[end:], data[:end]
        if data:
            self._read(data, now)
        return data

    def rest(self) -> bytes:
        """Bytes after the last whole event, to be passed on when the body ended by itself."""
        return self._rest

    @property
    def ended(self) -> bool:
        """Say whether the engine said by itself that the answer is complete."""
        return self.done or self.finished

    @property
    def output_tokens(self) -> int | None:
        """Tokens by the engine's own count, else the number of events that carried some; None when nothing came."""
        counted = self.usage.get("completion_tokens")
        return counted if isinstance(counted, int) else self.events or None

    def _read(self, data: bytes, now: float) -> None:
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        for line in data.split(b"\n"):
            if line.startswith(b"data:"):
                self._payload(line[5:].strip(), now)

    def _payload(self, payload: bytes, now: float) -> None:
        if payload == b"[DONE]":
            self.done = True
            return
        event = _parsed(payload)
        if not event:
            return
        if event.get("usage"):
            self.usage = as_mapping(event["usage"])
        if event.get("error"):
            self.failed = True
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            self._choice(as_mapping(choice), now)

    def _choice(self, choice: Mapping[str, Any], now: float) -> None:
        if choice.get("finish_reason") is not None:
            self.finished = True
        if carries_tokens(choice):
            self._token(now)

    def _token(self, now: float) -> None:
        self.events += 1
        if self.last_token_at is None:
            self.first_token_at = now
        else:
            self.max_gap_s = max(self.max_gap_s or 0.0, now - self.last_token_at)
        self.last_token_at = now


def carries_tokens(choice: Mapping[str, Any]) -> bool:
    """Say whether an event's choice carries generated tokens, be their text empty.

    The opening event of a chat (role, empty content) carries none, nor does a closing one with an empty delta.
    """
    if choice.get("text") is not None:
        return True
    delta = as_mapping(choice.get("delta"))
    if delta.get("tool_calls") or delta.get("reasoning_content") or delta.get("reasoning"):
        return True
    content = delta.get("content")
    return bool(content) if "role" in delta else content is not None


def as_mapping(value: object) -> Mapping[str, Any]:
    """Return a JSON object as it is, anything else as an empty one."""
    return value if isinstance(value, dict) else {}


def _parsed(payload: bytes) -> Mapping[str, Any]:
    try:
        return as_mapping(json.loads(payload))
    except ValueError:  # not ours to judge: it is passed on as it came
        return {}


def _end_of_events(data: bytes) -> int:
    """Index behind the last blank line; 0 when there is none."""
    plain = data.rfind(b"\n\n")
    windows = data.rfind(b"\r\n\r\n")
    return max(plain + 2 if plain >= 0 else 0, windows + 4 if windows >= 0 else 0)
