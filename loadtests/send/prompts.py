"""Prompt content of exact token length, made up on the fly. Pure; the same salt gives the same prompts.

Content never matters to an engine's speed but through its prefix cache. So every prompt begins with a tag that no other
prompt has, unless sharing is wanted: then it begins with its group's stream or with the trace's blocks.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

_LOWEST_ID, _HIGHEST_ID = 1000, 9999  # four digits each: below every vocabulary's end, above its special tokens
_TAG_UNITS = 5  # 9000^5 > 2^64: a tag names any 64-bit number when units are token ids
_POOL = 65536
_MASK = (1 << 64) - 1
_OWN, _GROUP, _BLOCK = 1, 2, 3


class Prompts(Protocol):
    """Renders prompts as a JSON value: an array of token ids or a string."""

    def render(self, parts: Sequence[tuple[int, int]]) -> bytes: ...


def parts_of(
    index: int, total: int, *, group: int, group_tokens: int, blocks: Sequence[int] = (), block_tokens: float = 0
) -> list[tuple[int, int]]:
    """Return what a prompt of `total` tokens is made of: (stream, tokens) pairs, streams numbered without collision."""
    parts: list[tuple[int, int]] = []
    left = total
    if group >= 0 and group_tokens > 0:
        parts.append((_stream(_GROUP, group), min(group_tokens, left)))
        left -= parts[-1][1]
    for number, block in enumerate(blocks):
        if left <= 0:
            break
        # Sizes that are not whole alternate by place: the same block has the same size in every prompt.
        size = round((number + 1) * block_tokens) - round(number * block_tokens)
        parts.append((_stream(_BLOCK, block), min(size, left)))
        left -= parts[-1][1]
    if left > 0:
        parts.append((_stream(_OWN, index), left))
    return parts


def _stream(kind: int, number: int) -> int:
    return kind << 60 | number


class TokenIdPrompts:
    """Arrays of token ids. Slices of one pool of random ids, rendered once: fast enough for any rate."""

    def __init__(self, salt: int) -> None:
        chance = random.Random(salt)
        self._salt = salt
        ids = (chance.randint(_LOWEST_ID, _HIGHEST_ID) for _ in range(_POOL))
        self._pool = b"".join(b"%d," % each for each in ids)

    def render(self, parts: Sequence[tuple[int, int]]) -> bytes:
        return b"[" + b"".join(self._stream(stream, count) for stream, count in parts)[:-1] + b"]"

    def _stream(self, stream: int, count: int) -> bytes:
        number = mix(self._salt, stream)
        tag = b"".join(b"%d," % (_LOWEST_ID + digit) for digit in _digits(number, 9000))
        wanted = 5 * count
        start = 5 * (number % _POOL)
        body = self._pool[start : start + wanted]
        while len(body) < wanted:
            body += self._pool[: wanted - len(body)]
        return (tag + body)[:wanted]


class WordPrompts:
    """Strings of words of which each is one token (checked against the tokenizer when there is one)."""

    def __init__(self, salt: int, words: Sequence[str]) -> None:
        chance = random.Random(salt)
        self._salt = salt
        self._words = [word.encode() for word in words]
        self._pool = chance.choices(self._words, k=_POOL)

    def render(self, parts: Sequence[tuple[int, int]]) -> bytes:
        return b'"' + b" ".join(word for stream, count in parts for word in self._stream(stream, count)) + b'"'

    def _stream(self, stream: int, count: int) -> list[bytes]:
        number = mix(self._salt, stream)
        start = number % _POOL
        body = self._pool[start : start + count]
        while len(body) < count:
            body = body + self._pool[: count - len(body)]
        tag = [self._words[digit] for digit in _digits(number, len(self._words))]
        return (tag + body)[:count]


def mix(salt: int, stream: int) -> int:
    """Return 64 bits that look random (splitmix64; Steele, Lea, Flood, OOPSLA 2014)."""
    z = (salt * 0x9E3779B97F4A7C15 + stream) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def _digits(number: int, base: int) -> list[int]:
    digits = []
    for _ in range(_TAG_UNITS):
        number, digit = divmod(number, base)
        digits.append(digit)
    return digits
