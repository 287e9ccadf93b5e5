"""Text to tokens and back, without a real vocabulary unless the model's folder holds one.

The invented vocabulary writes token `i` as a blank and three letters or digits, so ids → text → ids gives the same ids,
and any other text costs about a token per four characters, as English does in the Llama 3 vocabulary.
"""

from __future__ import annotations

import json
import random
import re
import string
import zlib
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Protocol

_DIGITS = string.ascii_uppercase + string.ascii_lowercase + string.digits
_BASE = len(_DIGITS)
_VALUE = {digit: index for index, digit in enumerate(_DIGITS)}
_PIECE = re.compile(r"<\|\w+\|>| [A-Za-z0-9]{3}(?![A-Za-z0-9])|\s?\w{1,4}|\s?[^\w\s]{1,4}|\s+")


class Tokenizer(Protocol):
    vocabulary_size: int

    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: Sequence[int]) -> str: ...
    def split(self, text: str) -> Sequence[Hashable]:
        """Return one thing per token, equal for equal tokens: all that counting and prefix caching need."""


class InventedTokenizer:
    """Tokens of the invented vocabulary. Exact for its own text, about right in number for any other."""

    def __init__(self, vocabulary_size: int = 128256) -> None:
        self.vocabulary_size = min(vocabulary_size, _BASE**3)

    def encode(self, text: str) -> list[int]:
        return [self._id(piece) for piece in _PIECE.findall(text)]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(_word(token) for token in ids)

    def split(self, text: str) -> Sequence[Hashable]:
        return _PIECE.findall(text)  # a tenth of the time of `encode`, which would hold up every stream

    def _id(self, piece: str) -> int:
        if len(piece) == 4 and piece[0] == " " and piece.isascii() and piece[1:].isalnum():
            high, middle, low = (_VALUE[letter] for letter in piece[1:])
            number = (high * _BASE + middle) * _BASE + low
            if number < self.vocabulary_size:
                return number
        return zlib.crc32(piece.encode()) % self.vocabulary_size


class FileTokenizer:
    """The model's own `tokenizer.json`."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer as Reader  # slow to import, and only needed when the file is there

        self._reader = Reader.from_file(str(path))
        self.vocabulary_size = int(self._reader.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._reader.encode(text).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._reader.decode(list(ids)))

    def split(self, text: str) -> Sequence[Hashable]:
        return self.encode(text)


def load_tokenizer(model: str, vocabulary_size: int) -> Tokenizer:
    """Return the tokenizer in the model's folder, or the invented one."""
    path = Path(model) / "tokenizer.json"
    return FileTokenizer(path) if path.is_file() else InventedTokenizer(vocabulary_size)


class OutputWords:
    """What the emulated model says: words drawn once by seed, the same for the same request number."""

    def __init__(self, tokenizer: Tokenizer, seed: int, pool: int = 4096) -> None:
        draw = random.Random(seed)
        self._ids = [draw.randrange(tokenizer.vocabulary_size) for _ in range(pool)]
        self._words = [tokenizer.decode([token]) or " " for token in self._ids]
        self._escaped = [escaped(word) for word in self._words]
        self._size = pool

    def word(self, position: int) -> str:
        """Return the text of the token at a position (positions go round)."""
        return self._words[position % self._size]

    def escaped_word(self, position: int) -> bytes:
        """Return the same as it stands in a JSON string."""
        return self._escaped[position % self._size]

    def text(self, start: int, count: int) -> str:
        """Return the text of `count` tokens from position `start` on."""
        return "".join(self.word(start + offset) for offset in range(count))

    def token(self, position: int) -> int:
        """Return the id of the token at a position."""
        return self._ids[position % self._size]


def block_hashes(tokens: Sequence[Hashable], block_size: int, salt: Hashable = None) -> tuple[int, ...]:
    """Return one hash per full block, each covering everything before it (as vLLM's prefix cache keys are).

    Requests with another `salt` share nothing: vLLM salts by adapter and by what a client asks for.
    """
    hashes: list[int] = []
    parent = hash(salt)
    for start in range(0, len(tokens) - block_size + 1, block_size):
        parent = hash((parent, *tokens[start : start + block_size]))
        hashes.append(parent)
    return tuple(hashes)


def escaped(text: str) -> bytes:
    """Return text as it stands inside a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1].encode()


def _word(token: int) -> str:
    high, rest = divmod(token % _BASE**3, _BASE * _BASE)
    middle, low = divmod(rest, _BASE)
    return f" {_DIGITS[high]}{_DIGITS[middle]}{_DIGITS[low]}"
