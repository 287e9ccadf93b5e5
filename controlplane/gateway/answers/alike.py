"""Finding an answer by what its question sounds like, and checking whether that was right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import numpy as np

from controlplane.domain.door.caching import CHAT_PATH, Partition, cache_key
from controlplane.domain.door.similar import EmbedderOptions, SemanticOptions, differs
from controlplane.gateway.answers.embedding import Embed
from controlplane.gateway.answers.entry import Entry
from controlplane.gateway.answers.questions import Question, Questions
from controlplane.gateway.answers.said import text_of

_PLACE = {"": "the question"}
"""Stands for the last message's text where all else is compared: no message is an object like it."""


class Alike:
    """Questions of all services. `embedders` makes who embeds by a service's options; `chance` picks hits to check."""

    def __init__(self, embedders: Callable[[EmbedderOptions], Embed], chance: Random) -> None:
        self._embedders = embedders
        self._made: dict[EmbedderOptions, Embed] = {}
        self._chance = chance
        self._questions = Questions()

    async def read(
        self, partition: Partition, query: str, fields: Mapping[str, Any], key: bytes, options: SemanticOptions
    ) -> Question | None:
        """Return a chat's question; None when its last message is none, or no vector can be had."""
        messages = fields.get("messages")
        if not isinstance(messages, list) or not messages:
            return None
        last = messages[-1]
        if not isinstance(last, dict) or last.get("role") != "user" or not isinstance(last.get("content"), str):
            return None
        vectors = await self._embed(options)([last["content"]])
        if vectors is None:
            return None
        others = {**fields, "messages": [*messages[:-1], {**last, "content": _PLACE}]}
        return Question(cache_key(partition, CHAT_PATH, query, others), last["content"], vectors, key)

    def find(self, question: Question, options: SemanticOptions) -> Question | None:
        """Return one that was answered and is the same question."""
        return self._questions.nearest(question, options.at_least)

    def is_checked(self, options: SemanticOptions) -> bool:
        """Say whether this hit is one that an engine answers nevertheless."""
        return self._chance.random() < options.check_share

    def remember(self, question: Question, options: SemanticOptions) -> None:
        self._questions.remember(question, options.most_questions)

    def forget(self, question: Question) -> None:
        self._questions.forget(question)

    async def say_the_same(self, one: Entry, other: Entry, options: SemanticOptions) -> bool | None:
        """Say whether two answers do; None when nobody can tell."""
        texts = [text_of(one), text_of(other)]
        if texts[0] == texts[1]:
            return True
        if not all(texts):
            return None
        vectors = await self._embed(options)(texts)
        if vectors is None:
            return None
        return bool(np.dot(vectors[0], vectors[1]) >= options.same_answer) and differs(*texts) is None

    def _embed(self, options: SemanticOptions) -> Embed:
        made = self._made.get(options.embedder)
        if made is None:
            made = self._made[options.embedder] = self._embedders(options.embedder)
        return made
