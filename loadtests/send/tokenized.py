"""Words that are one token each in a given vocabulary, so that text prompts have an exact length in tokens."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from controlplane.domain.errors import InvalidInput
from loadtests.send.plan import Api
from loadtests.send.words import COMMON_WORDS

_WANTED = 2000
_PROOF = 500  # words in the text that proves it


class PromptWords(NamedTuple):
    """None: prompts are token ids, of exact length with any tokenizer."""

    words: tuple[str, ...] | None
    exact: bool


def words_for(tokenizer: str | None, api: Api) -> PromptWords:
    """Choose what prompts are made of: token ids, or text where the API or the user wants text.

    Chat takes only text; without a tokenizer it is made of common words, about one token each, and the server's own
    count is reported. Raises InvalidInput when the tokenizer cannot be read or knows too few whole words.
    """
    if tokenizer is None:
        return PromptWords(None, exact=True) if api is not Api.CHAT else PromptWords(COMMON_WORDS, exact=False)
    return PromptWords(single_token_words(_load(tokenizer), tokenizer), exact=True)


def single_token_words(tokenizer: Tokenizer, name: str) -> tuple[str, ...]:
    """Return words of which any sequence joined by spaces has one token per word; proven on a long sample."""
    words = tuple(word for word in _candidates(tokenizer) if _is_single(tokenizer, word))[:_WANTED]
    if len(words) < 50:
        raise InvalidInput(
            f"tokenizer '{name}' has only {len(words)} plain words that are one token", allowed="50 or more"
        )
    sample = random.Random(0).choices(words, k=_PROOF)
    counted = len(tokenizer.encode(" ".join(sample), add_special_tokens=False).ids)
    if counted != _PROOF:
        raise InvalidInput(f"tokenizer '{name}' joins words", why=f"{_PROOF} of them became {counted} tokens")
    return words


def _candidates(tokenizer: Tokenizer) -> list[str]:
    """Plain lower-case words of the vocabulary, in order of their ids: the common ones first."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    plain = (token.lstrip("Ġ▁ ") for token, _ in vocabulary if token[:1] in "Ġ▁ " or not token.startswith("##"))
    return list(dict.fromkeys(word for word in plain if 2 < len(word) < 12 and word.isascii() and word.islower()))


def _is_single(tokenizer: Tokenizer, word: str) -> bool:
    """One token at the beginning, after a space, and repeated."""
    return (
        len(tokenizer.encode(word, add_special_tokens=False).ids) == 1
        and len(tokenizer.encode(f"{word} {word} {word}", add_special_tokens=False).ids) == 3
    )


def _load(name: str) -> Tokenizer:
    path = Path(name) / "tokenizer.json" if Path(name).is_dir() else Path(name)
    if not path.is_file():
        raise InvalidInput(f"tokenizer '{name}' does not exist", allowed="a tokenizer.json, or a folder that has one")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:
        raise InvalidInput(f"tokenizer '{name}' cannot be read", why=str(error)) from error
