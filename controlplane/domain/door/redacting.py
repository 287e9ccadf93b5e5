"""Taking what was found out of a text that comes in pieces, holding back no more than what may still become something.

However a text is cut into pieces, the same comes out as for the whole of it. Of JSON written by a model (the arguments
of a tool call) what is in a string is replaced in the string, what is a number by a string: it stays the JSON it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from controlplane.domain.door.personal import Span


class Finder(Protocol):
    """What recognises things."""

    def find(self, text: str) -> Sequence[Span]:
        """Return what is in a text, in order and without overlaps."""

    def held_from(self, text: str) -> int:
        """Return from where on a text may still become part of something when more of it comes."""


class Change(NamedTuple):
    """`[start, end)` of everything that came, and what is to stand there instead."""

    start: int
    end: int
    text: str


_PIECE = 64 << 10  # characters looked at in one go: a search holds Python's lock, and others want it
LARGEST_HOLD = 2048
"""Characters held back at most: an unbroken run of more, or a private key, is decided on as far as it came."""

_ESCAPE = re.compile(r"\\u[0-9a-fA-F]{4}|\\[^u]|\\u?[0-9a-fA-F]{0,3}\Z|.", re.DOTALL)
_GOES_ON = re.compile(r"[A-Za-z0-9_+/=.-]*")
_PEM_GOES_ON = re.compile(r"[^\"]*?-----END [A-Z ]{0,30}PRIVATE KEY-----")
_PEM_END = 60  # characters, at most, that its last line has


def placeholder(kind: str) -> str:
    """Return what stands for something that was taken out."""
    return f"[{kind.upper()}]"


class Swallowed(Enum):
    """A secret longer than what is held back, the rest of which is taken out as it comes."""

    KEY = "key"
    PEM = "pem"


class Channel:
    """One text that comes in pieces: an answer's, or the arguments of one of its tool calls (`written_json`)."""

    def __init__(self, finder: Finder, *, written_json: bool = False) -> None:
        self._finder = finder
        self._json = written_json
        self._rest = ""  # not decided on yet
        self._before = ""  # what the last character in front of it says
        self._in_string = False
        self._swallows: Swallowed | None = None  # what was cut off for its length goes on
        self.came = 0  # characters, all pieces together
        self.settled = 0  # how much of all that came is decided on
        self.changes: list[Change] = []

    @property
    def waits(self) -> bool:
        """Whether something is held back, or what was cut off may go on: where not, `finish` changes nothing."""
        return bool(self._rest) or self._swallows is not None

    def push(self, text: str) -> None:
        """Take the next piece."""
        self.came += len(text)
        self._rest += text
        if self._swallows:
            self._swallow(last=False)
            if self._swallows:
                return
        if self._json:
            self._settle(self._held_from())
        elif upto := self._finder.held_from(self._rest):
            self._settle_plain(upto)
        if len(self._rest) > LARGEST_HOLD:
            self.cut()

    def cut(self) -> None:
        """Decide on what is held back, which is too much; what goes on of a secret is taken out as it comes."""
        if self._swallows:
            self._take_out(len(self._rest))
        else:
            self._settle_all(swallow=True)

    def finish(self) -> None:
        """Decide on what was held back: nothing more comes, or not soon."""
        if self._swallows:
            self._swallow(last=True)
        self._settle_all(swallow=False)

    def forget(self, upto: int) -> None:
        """Forget what was taken out before a piece's end: it was sent, and is not asked for again."""
        while self.changes and self.changes[0].end <= upto:
            del self.changes[0]

    def changed(self, start: int, text: str) -> str:
        """Return the piece that began at `start` as it is to be sent. It must be settled."""
        end, at, parts = start + len(text), start, []
        for change in self.changes:
            if change.end <= start or change.start >= end:
                continue
            parts.append(text[at - start : max(0, change.start - start)] if change.start > at else "")
            if change.start >= start:
                parts.append(change.text)
            at = min(end, change.end)
        return "".join(parts) + text[at - start :]

    def touched(self, start: int, end: int) -> bool:
        """Say whether something in `[start, end)` was taken out."""
        return bool(self.changes) and any(change.start < end and start < change.end for change in self.changes)

    def _settle_all(self, *, swallow: bool) -> None:
        rest, self_end = self._rest, self.settled + len(self._rest)
        self._settle(len(rest))
        if swallow and rest and self.changes and self.changes[-1].end == self_end:
            pem = rest.rfind("-----BEGIN ")
            grows = pem >= 0 and self.changes[-1].start <= self_end - len(rest) + pem
            self._swallows = Swallowed.PEM if grows else Swallowed.KEY

    def _held_from(self) -> int:
        plain, starts = self._read()
        return starts[self._finder.held_from(plain)] if plain else 0

    def _settle(self, upto: int) -> None:
        """Decide on the first `upto` characters of the rest."""
        if upto <= 0:
            return
        text = self._rest[:upto]
        plain, starts = self._read(text)
        for found in self._found(text, plain, starts):
            self.changes.append(Change(self.settled + found.start, self.settled + found.end, found.text))
        self._in_string = self._in_string_after(text)
        self._before, self._rest = plain[-1:], self._rest[upto:]
        self.settled += upto

    def _settle_plain(self, upto: int) -> None:
        """Do as `_settle` where every character says itself: of most pieces of most streams nothing is found."""
        text = self._rest[:upto]
        if self._finder.find(self._before + text):
            self._settle(upto)
            return
        self._before, self._rest = text[-1], self._rest[upto:]
        self.settled += upto

    def _swallow(self, *, last: bool) -> None:
        """Take out what continues a secret."""
        match self._swallows:
            case None:
                return
            case Swallowed.KEY:
                found = _GOES_ON.match(self._rest)
                gone = found.end() if found else 0
                goes_on = gone == len(self._rest)
            case Swallowed.PEM:
                found = _PEM_GOES_ON.match(self._rest)
                quote = self._rest.find('"')
                all_of_it = quote if quote >= 0 else len(self._rest)
                gone = found.end() if found else all_of_it if last or quote >= 0 else max(0, all_of_it - _PEM_END)
                goes_on = found is None and quote < 0
        self._take_out(gone)
        self._swallows = self._swallows if goes_on and not last else None

    def _take_out(self, gone: int) -> None:
        """Put nothing in place of the first `gone` characters of the rest."""
        self.changes.append(Change(self.settled, self.settled + gone, ""))
        self._rest, self.settled = self._rest[gone:], self.settled + gone

    def _found(self, text: str, plain: str, starts: Sequence[int]) -> Sequence[Change]:
        before = self._before
        spans = self._finder.find(before + plain)
        if not spans:
            return ()
        moved = [(span.start - len(before), span.end - len(before), span.kind) for span in spans]
        found = [(max(0, start), end, kind) for start, end, kind in moved if end > 0]
        changes: list[Change] = []
        for start, end, kind in found:
            change = self._change(text, starts[start], starts[end], kind)
            if not changes or change.start >= changes[-1].end:
                changes.append(change)
        return changes

    def _change(self, text: str, start: int, end: int, kind: str) -> Change:
        if not self._json or self._in_string_after(text[:start]):
            return Change(start, end, placeholder(kind))
        return Change(start, end, json.dumps(placeholder(kind)))

    def _in_string_after(self, text: str) -> bool:
        if not self._json:
            return False
        quotes = sum(token == '"' for token in _ESCAPE.findall(text))
        return self._in_string ^ bool(quotes % 2)

    def _read(self, text: str | None = None) -> tuple[str, Sequence[int]]:
        """Return what a text says, and where each of its characters is written; JSON's escapes are several for one.

        An escape that is not whole yet is left out.
        """
        text = self._rest if text is None else text
        if not self._json:
            return text, range(len(text) + 1)
        said: list[str] = []
        starts: list[int] = []
        at = 0
        for token in _ESCAPE.findall(text):
            character = _unescaped(token)
            if character is None:
                break
            said.append(character)
            starts.append(at)
            at += len(token)
        return "".join(said), [*starts, at]


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


def _unescaped(token: str) -> str | None:
    """Return the character that a token of JSON text says; None for half an escape."""
    if token[0] != "\\":
        return token
    if len(token) == 6:
        return chr(int(token[2:], 16))
    if len(token) == 2 and token[1] != "u":
        return _ESCAPES.get(token[1], " " if token[1] in '"' else token[1])
    return None


def redacted(text: str, finder: Finder, *, written_json: bool = False) -> str:
    """Return a whole text with everything found taken out; the very same text when there is nothing."""
    if not written_json and len(text) <= _PIECE and not finder.find(text):
        return text
    channel = Channel(finder, written_json=written_json)
    for at in range(0, len(text), _PIECE):
        channel.push(text[at : at + _PIECE])
    channel.finish()
    return channel.changed(0, text) if channel.changes else text
