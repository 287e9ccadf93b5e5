"""Redacting an answer on its way: event by event, each as it came unless something was found in it."""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from controlplane.domain.door.personal import Span
from controlplane.domain.door.redacting import LARGEST_HOLD, Channel, Finder, redacted
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

MOST_HELD_EVENTS = LARGEST_HOLD
MOST_HELD_BYTES = 1 << 20
"""Events of a stream that wait, together: beyond it the first is decided on as far as its texts came."""

MOST_TEXTS = 1024
"""Texts of a stream that are told apart: beyond it the one that came first is over."""


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
class _Text:
    channel: Channel
    choice: Any


@dataclass(slots=True)
class _Piece:
    place: Place
    channel: Channel
    start: int
    end: int
    text: str

    def is_settled(self) -> bool:
        return self.end <= self.channel.settled


@dataclass(slots=True)
class _Held:
    raw: bytes
    event: dict[str, Any] | None
    pieces: Sequence[_Piece] = ()
    changed: bool = False

    def is_settled(self) -> bool:
        pieces = self.pieces
        if len(pieces) == 1:
            return pieces[0].is_settled()
        return all(piece.is_settled() for piece in pieces)

    def bytes(self) -> bytes:
        """Return the event as it is to be sent."""
        for piece in self.pieces:
            channel = piece.channel
            if channel.changes and channel.touched(piece.start, piece.end):
                piece.place.put(channel.changed(piece.start, piece.text))
                self.changed = True
        return _written(self.raw, self.event) if self.changed and self.event is not None else self.raw


class Redaction:
    """See `passage.Passage`. Events wait, in their order, until what their texts may become part of is known.

    What it holds is bounded, however long the stream: a text that others of its answer have followed is over
    (reasoning, once the answer itself begins), and what went on is forgotten.
    """

    def __init__(self, finder: Finder) -> None:
        self._finder = finder
        self._texts: dict[Name, _Text] = {}
        self._open: dict[Name, _Text] = {}  # all of them that wait, of an answer's hundreds mostly one
        self._held: deque[_Held] = deque()
        self._held_bytes = 0
        self.found = False

    async def feed(self, events: bytes) -> bytes:
        if _is_one(events):
            return self._take(events, events[5:].strip())
        return b"".join(self._take(raw, _payload(raw)) for raw in _split(events))

    async def finish(self) -> bytes:
        self._settle()
        return self._released()

    async def whole(self, body: bytes) -> bytes:
        if len(body) <= _LARGE_BYTES:
            return self._whole(body)
        return await asyncio.to_thread(self._whole, body)

    def _take(self, raw: bytes, payload: bytes) -> bytes:
        event = _parsed(payload)
        held = _Held(raw, event)
        self._held.append(held)
        self._held_bytes += len(raw)
        if event is not None:
            places = places_of_event(event)
            if len(self._texts) > 1 or (places and places[0].name not in self._texts):
                self._followed(places)
            held.pieces = [self._piece(place) for place in places]
            self._end(event, held)
        elif payload == b"[DONE]":
            self._settle()
        return self._released()

    def _piece(self, place: Place) -> _Piece:
        text = self._texts.get(place.name)
        if text is None:
            text = self._new(place)
        channel, piece = text.channel, place.text
        start = channel.came
        channel.push(piece)
        if channel.waits:
            self._open[place.name] = text
        return _Piece(place, channel, start, channel.came, piece)

    def _new(self, place: Place) -> _Text:
        text = self._texts[place.name] = _Text(Channel(self._finder, written_json=place.written_json), place.choice)
        if len(self._texts) > MOST_TEXTS:
            oldest = next(iter(self._texts))
            self._texts.pop(oldest).channel.finish()
            self._open.pop(oldest, None)
        return text

    def _followed(self, places: Sequence[Place]) -> None:
        """Decide on the texts that have none of an event's pieces where another one of the same answer has."""
        growing = {place.name: place.choice for place in places if place.text}
        choices = set(growing.values())
        over = [name for name, text in self._open.items() if text.choice in choices and name not in growing]
        for name in over:
            self._open.pop(name).channel.finish()

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
        ended = [name for name, text in self._open.items() if choice is None or text.choice == choice]
        for name in ended:
            self._open.pop(name).channel.finish()

    def _released(self) -> bytes:
        held, released = self._held, list[bytes]()
        while held and (held[0].is_settled() or self._holds_too_much()):
            event = held.popleft()
            self._held_bytes -= len(event.raw)
            released.append(event.bytes())
            self.found = self.found or event.changed
            for piece in event.pieces:
                piece.channel.forget(piece.end)
        return released[0] if len(released) == 1 else b"".join(released)

    def _holds_too_much(self) -> bool:
        """Decide on the first event's texts as far as they came, where too much waits behind it."""
        if len(self._held) <= MOST_HELD_EVENTS and self._held_bytes <= MOST_HELD_BYTES:
            return False
        for piece in self._held[0].pieces:
            piece.channel.cut()
        return True

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


def _is_one(events: bytes) -> bool:
    """Say whether they are a single event as engines write them: one line."""
    one = events.startswith(b"data:") and events.find(b"\n") == len(events) - 2
    return one and events.endswith(b"\n") and b"\r" not in events


def _split(events: bytes) -> Iterator[bytes]:
    """Return events one by one, each with the blank line behind it."""
    at = 0
    for end in _EVENT.finditer(events):
        yield events[at : end.end()]
        at = end.end()
    if at < len(events):
        yield events[at:]


def _payload(raw: bytes) -> bytes:
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
