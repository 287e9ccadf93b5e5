"""Log probabilities in the two shapes of the API. They are made up: the said word is always the likeliest."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from controlplane.emulator.errors import bad_request
from controlplane.emulator.tokens import OutputWords

_STEP = 1.25
"""How much less likely, in nats, each alternative is than the one before."""


class Candidate(NamedTuple):
    word: str
    logprob: float


def check_top(wanted: int, most: int) -> None:
    """Raise ApiError 400, in vLLM's words, for more alternatives than the engine gives (`--max-logprobs`)."""
    if wanted > most >= 0:
        raise bad_request(
            f"Requested sample logprobs of {wanted}, which is greater than max allowed: {most}", "logprobs"
        )


def candidates(word: str, position: int, alternatives: int, words: OutputWords) -> list[Candidate]:
    """Return the said word and the next likely ones, `alternatives` of them in all, at least the word itself."""
    said = -(zlib.crc32(f"{position} {word}".encode()) % 1000 + 1) / 2000
    others = (words.word(position * 7 + rank) for rank in range(1, max(1, alternatives)))
    return [Candidate(word, said), *(Candidate(o, said - _STEP * r) for r, o in enumerate(others, start=1))]


def chat_logprobs(tokens: Sequence[Sequence[Candidate]], top: int) -> dict[str, Any]:
    """Return the `logprobs` of a chat choice for some of its tokens."""
    return {"content": [{**_entry(each[0]), "top_logprobs": [_entry(one) for one in each[:top]]} for each in tokens]}


def completion_logprobs(tokens: Sequence[Sequence[Candidate]], offset: int) -> dict[str, Any]:
    """Return the `logprobs` of a completion choice; `offset` is how many characters came before."""
    offsets = []
    for each in tokens:
        offsets.append(offset)
        offset += len(each[0].word)
    return {
        "text_offset": offsets,
        "token_logprobs": [each[0].logprob for each in tokens],
        "tokens": [each[0].word for each in tokens],
        "top_logprobs": [{one.word: one.logprob for one in each} for each in tokens],
    }


def _entry(one: Candidate) -> dict[str, Any]:
    return {"token": one.word, "logprob": one.logprob, "bytes": list(one.word.encode())}
