"""What one answer says, token by token: made-up words, or a text that a request asks to be shaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from controlplane.emulator.tokens import OutputWords, escaped

_PIECE = re.compile(r"\s?\w{1,4}|\s?[^\w\s]{1,4}|\s+")


class Speech(Protocol):
    """The text of an answer by the position of its tokens, the first 0."""

    def text(self, start: int, count: int) -> str: ...
    def escaped_word(self, position: int) -> bytes:
        """Return one token's text as it stands in a JSON string."""


class Murmur:
    """Words of the pool from `start` on, as many as anybody wants."""

    def __init__(self, words: OutputWords, start: int) -> None:
        self._words = words
        self._start = start

    def text(self, start: int, count: int) -> str:
        return self._words.text(self._start + start, count)

    def escaped_word(self, position: int) -> bytes:
        return self._words.escaped_word(self._start + position)


class Script:
    """A given text, in about as many tokens as a real vocabulary makes of it."""

    def __init__(self, text: str) -> None:
        self._pieces: Sequence[str] = _PIECE.findall(text) or [""]

    def __len__(self) -> int:
        return len(self._pieces)

    def text(self, start: int, count: int) -> str:
        return "".join(self._pieces[start : start + count])

    def escaped_word(self, position: int) -> bytes:
        return escaped(self._pieces[position])
