"""Watching a server-sent event stream while it is passed on: when tokens came, how many, and whether it ended well.

Not the parser of load tests (`loadtests/measure/sse.py`), which decodes all of a stream: here bytes are passed on
unchanged, and only what a record says of them is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controlplane.gateway.answer_notes import AnswerNotes
from controlplane.gateway.parsing import parsed

LARGEST_EVENT_BYTES = 8 << 20

_LAST_EVENTS = frozenset({"message_stop", "response.completed", "response.incomplete", "response.failed"})


_NAMED: Mapping[str, str] = {
    "prompt_tokens": "prompt_tokens",
    "completion_tokens": "completion_tokens",
    "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
}
_MOST_COUNTED = 10**12


class StreamWatch:
    """Reads OpenAI-style events incrementally. Texts are looked at, never kept.

    Bytes are passed on unchanged, but only as whole events: a stream that is cut never leaves the client half an event
    in front of the error event.
    """

    PACED = 16
    """Gaps between tokens by which a stream's pace is judged: few enough to fit into buffers, whoever reads slowly."""

    def __init__(self) -> None:
        self.first_token_at: float | None = None
        self.last_token_at: float | None = None
        self.events = 0
        self.max_gap_s: float | None = None
        self.paced_at: float | None = None  # the first token and `PACED` more were there
        self.done = False  # [DONE] came
        self.finished = False  # a finish_reason came
        self.failed = False  # the engine itself reported an error in the stream
        self.delivering = False  # the client is to take what came: while it does not, the engine is not waited for
        self.usage: Mapping[str, Any] = {}
        self.notes = AnswerNotes()
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

    def finish(self, now: float) -> bytes:
        """Return the last event when the body ended by itself without the blank line behind it, whole; else nothing.

        Half an event is dropped: a client could make nothing of it, and it would spoil the error event that follows.
        """
        rest, self._rest = self._rest, b""
        if not rest or not _is_whole(rest):
            return b""
        whole = rest.rstrip(b"\r\n") + b"\n\n"
        self._read(whole, now)
        return whole

    @property
    def ended(self) -> bool:
        """Say whether the engine said by itself that the answer is complete."""
        return self.done or self.finished

    def silent_since(self) -> float | None:
        """Return when the last token came, of a stream that waits for the engine's next one; None of any other."""
        return None if self.ended or self.failed or self.delivering else self.last_token_at

    @property
    def output_tokens(self) -> int | None:
        """Tokens by the engine's own count, else the number of events that carried some; None when nothing came."""
        counted = self.usage.get("completion_tokens")
        return counted if isinstance(counted, int) else self.events or None

    def _read(self, data: bytes, now: float) -> None:
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        for line in data.split(b"\n"):
            if line.startswith(b"data:"):
                self._payload(line[5:].strip(), now)

    def _payload(self, payload: bytes, now: float) -> None:
        if payload == b"[DONE]":
            self.done = True
            return
        event = parsed_object(payload)
        if not event:
            return
        self.notes.named(event.get("model"))
        kind = event.get("type")
        if isinstance(kind, str):
            self._typed(kind, event, now)
        if event.get("usage"):
            self.usage = {**self.usage, **token_counts(event["usage"])}
        if event.get("error"):
            self.failed = True
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            self._choice(as_mapping(choice), now)

    def _typed(self, kind: str, event: Mapping[str, Any], now: float) -> None:
        """Read an event of Anthropic's `/v1/messages` or OpenAI's `/v1/responses`, which say what they are."""
        if (kind.endswith("_delta") and kind != "message_delta") or kind.endswith(".delta"):
            self._token(now)
        elif kind == "message_start":
            self.usage = token_counts(as_mapping(event.get("message")).get("usage"))
        elif kind == "message_delta":
            self.notes.stopped(as_mapping(event.get("delta")).get("stop_reason"))
        elif kind in _LAST_EVENTS:
            self.done = True
            self._response_stopped(as_mapping(event.get("response")))
            self.usage = {**self.usage, **token_counts(as_mapping(event.get("response")).get("usage"))}
            self.failed = self.failed or kind == "response.failed"

    def _response_stopped(self, response: Mapping[str, Any]) -> None:
        incomplete = as_mapping(response.get("incomplete_details")).get("reason")
        self.notes.stopped(incomplete or response.get("status"))

    def _choice(self, choice: Mapping[str, Any], now: float) -> None:
        self.notes.choice(choice)
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
        if self.events == self.PACED + 1:
            self.paced_at = now


def token_counts(usage: object) -> Mapping[str, Any]:
    """Return an answer's `usage` under the names of chat completions, whichever of the protocols it is written in.

    What is below zero is no count, it would give limits back what nobody took; nor is what nobody could count with.
    Counts of other names are left out.
    """
    given = as_mapping(usage)
    return {
        ours: count
        for name, ours in _NAMED.items()
        if isinstance(count := given.get(name), int) and 0 <= count < _MOST_COUNTED
    }


def carries_tokens(choice: Mapping[str, Any]) -> bool:
    """Say whether an event's choice carries generated tokens, be their text empty.

    The opening event of a chat (role, empty content) carries none, nor does a closing one with an empty delta.
    """
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return choice.get("text") is not None
    content = delta.get("content")
    if content or (content is not None and "role" not in delta):
        return True
    others = (delta.get("tool_calls"), delta.get("reasoning_content"), delta.get("reasoning"))
    return any(others) or choice.get("text") is not None


def as_mapping(value: object) -> Mapping[str, Any]:
    """Return a JSON object as it is, anything else as an empty one."""
    return value if isinstance(value, dict) else {}


def parsed_object(payload: bytes) -> Mapping[str, Any]:
    """Return a JSON object; of anything else an empty one."""
    try:
        return as_mapping(parsed(payload))
    except (ValueError, RecursionError):  # not ours to judge: it is passed on as it came
        return {}


def _is_whole(event: bytes) -> bool:
    """Say whether an event without its blank line is complete: its last line says something a client understands."""
    line = event.rstrip(b"\r\n").replace(b"\r\n", b"\n").replace(b"\r", b"\n").rpartition(b"\n")[2]
    payload = line[5:].strip() if line.startswith(b"data:") else b""
    return payload == b"[DONE]" or bool(parsed_object(payload))


_BLANK_LINES = (b"\n\n", b"\n\r\n", b"\r\r")
"""How an event ends: its last line's end and an empty line, whose ends may be any of those that HTML's standard has."""


def _end_of_events(data: bytes) -> int:
    """Index behind the last blank line; 0 when there is none."""
    return max(at + len(blank) if (at := data.rfind(blank)) >= 0 else 0 for blank in _BLANK_LINES)
