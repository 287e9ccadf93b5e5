"""Redacting an answer on its way: event by event, each as it came unless something was found in it."""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from controlplane.domain.door.personal import Span
from controlplane.domain.door.redacting import Channel, Finder, redacted
from controlplane.gateway.parsing import parsed
from controlplane.gateway.privacy.places import (
    Name,
    Place,
    ended_choices,
    places_of_event,
    texts_within,
    without_tokens,
)

_EVENT = re.compile(rb"(?:\r\n|\n|\r)(?:\r\n|\n|\r)")
_LARGE_BYTES = 64 << 10
"""Beyond it an answer in one piece is looked at on a thread."""


class Finders(NamedTuple):
    """Several as one. Where they overlap the earlier one's word holds."""

    each: Sequence[Finder]

    def find(self, text: str) -> Sequence[Span]:
        found: list[Span] = []
        for finder in self.each:
            new = finder.find(text)
            found += [span for span in new if not any(span.start < o.end and o.start < span.end for o in found)]
        return sorted(found)

    def held_from(self, text: str) -> int:
        return min(finder.held_from(text) for finder in self.each)


@dataclass(slots=True)
class _Piece:
    place: Place
    channel: Channel
    start: int
    text: str

    @property
    def settled(self) -> bool:
        return self.start + len(self.text) <= self.channel.settled


@dataclass(slots=True)
class _Held:
    raw: bytes
    event: dict[str, Any] | None = None
    pieces: list[_Piece] = field(default_factory=list)
    changed: bool = False

    @property
    def settled(self) -> bool:
        return all(piece.settled for piece in self.pieces)

    def bytes(self) -> bytes:
        """Return the event as it is to be sent."""
        for piece in self.pieces:
            if piece.channel.touched(piece.start, piece.start + len(piece.text)):
                piece.place.put(piece.channel.changed(piece.start, piece.text))
                self.changed = True
        return _written(self.raw, self.event) if self.changed and self.event is not None else self.raw


class Redaction:
    """See `passage.Passage`. Events wait, in their order, until what their texts may become part of is known."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder
        self._channels: dict[Name, Channel] = {}
        self._came: dict[Name, int] = {}
        self._choices: dict[Name, Any] = {}
        self._held: deque[_Held] = deque()
        self.found = False

    async def feed(self, events: bytes) -> bytes:
        return b"".join(out for raw in _split(events) for out in self._take(raw))

    async def finish(self) -> bytes:
        self._settle()
        return b"".join(self._released())

    async def whole(self, body: bytes) -> bytes:
        if len(body) <= _LARGE_BYTES:
            return self._whole(body)
        return await asyncio.to_thread(self._whole, body)

    def _take(self, raw: bytes) -> Iterator[bytes]:
        payload = _payload(raw)
        event = _parsed(payload)
        held = _Held(raw, event)
        self._held.append(held)
        if event is not None:
            held.pieces = [self._piece(place) for place in places_of_event(event)]
            self._end(event, held)
        elif payload == b"[DONE]":
            self._settle()
        return self._released()

    def _piece(self, place: Place) -> _Piece:
        channel = self._channels.get(place.name)
        if channel is None:
            channel = self._channels[place.name] = Channel(self._finder, written_json=place.written_json)
            self._came[place.name], self._choices[place.name] = 0, place.choice
        piece = _Piece(place, channel, self._came[place.name], place.text)
        self._came[place.name] += len(piece.text)
        channel.push(piece.text)
        return piece

    def _end(self, event: dict[str, Any], held: _Held) -> None:
        """Decide on what an event ends; one that says a text whole (`...done`, `response.completed`) is read whole."""
        for choice in ended_choices(event):
            self._settle(choice)
        kind = event.get("type")
        if isinstance(kind, str) and not held.pieces:
            if kind.endswith(("_stop", ".done", ".completed", ".incomplete", ".failed")):
                self._settle()
            held.changed = self._whole_texts(event)

    def _settle(self, choice: Any = None) -> None:
        for name, channel in self._channels.items():
            if choice is None or self._choices[name] == choice:
                channel.finish()

    def _released(self) -> Iterator[bytes]:
        while self._held and self._held[0].settled:
            held = self._held.popleft()
            out = held.bytes()
            self.found = self.found or held.changed
            yield out

    def _whole(self, body: bytes) -> bytes:
        try:
            answer = parsed(body)
        except (ValueError, RecursionError):
            return self._plain(body)
        if not isinstance(answer, dict) or not self._whole_texts(answer):
            return body
        self.found = True
        return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")

    def _whole_texts(self, answer: dict[str, Any]) -> bool:
        changed = False
        for place in texts_within(answer):
            said = place.text
            text = redacted(said, self._finder, written_json=place.written_json)
            if text is not said and text != said:
                place.put(text)
                changed = True
        if changed:
            without_tokens(answer)
        return changed

    def _plain(self, body: bytes) -> bytes:
        """A body that is no JSON: a transcription as plain text or subtitles."""
        try:
            text = body.decode()
        except UnicodeDecodeError:
            return body
        out = redacted(text, self._finder)
        self.found = self.found or out != text
        return out.encode() if out != text else body


def _split(events: bytes) -> Iterator[bytes]:
    """Return events one by one, each with the blank line behind it. Most come alone."""
    if events.find(b"\n\n") == len(events) - 2 and b"\r" not in events:
        yield events
        return
    at = 0
    for end in _EVENT.finditer(events):
        yield events[at : end.end()]
        at = end.end()
    if at < len(events):
        yield events[at:]


def _payload(raw: bytes) -> bytes:
    if raw.startswith(b"data:") and raw.find(b"\n") == len(raw) - 2 and b"\r" not in raw:
        return raw[5:].strip()  # as engines write them
    lines = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return b"\n".join(line[5:].strip() for line in lines if line.startswith(b"data:"))


def _parsed(payload: bytes) -> dict[str, Any] | None:
    try:
        event = parsed(payload)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def _written(raw: bytes, event: dict[str, Any]) -> bytes:
    """Return an event with other data and the same other lines."""
    data = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    lines = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    kept = [line for line in lines if line and not line.startswith(b"data:")]
    return b"\n".join([*kept, b"data: " + data]) + b"\n\n"
