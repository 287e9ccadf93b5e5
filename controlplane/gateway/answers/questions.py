"""Questions that were answered, found again by what they sound like. In memory only: they are what people wrote."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from controlplane.domain.door.similar import differs
from controlplane.gateway.answers.embedding import Vectors

MOST_PER_CONTEXT = 1_000
"""Questions that share all but their last message. Comparing with so many takes well below a millisecond."""


class Question(NamedTuple):
    """One that was or may be answered: `context` is all of the request but the text."""

    context: bytes
    text: str
    vector: Vectors  # one row
    key: bytes  # of its answer


@dataclass
class _Context:
    questions: list[Question] = field(default_factory=list)
    matrix: Vectors | None = None

    def rows(self) -> Vectors:
        if self.matrix is None:
            self.matrix = np.vstack([question.vector for question in self.questions])
        return self.matrix


class Questions:
    """The latest used contexts, and in each the latest questions."""

    def __init__(self) -> None:
        self._contexts: OrderedDict[bytes, _Context] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def nearest(self, asked: Question, at_least: float) -> Question | None:
        """Return the question that sounds most alike and differs in nothing that can be seen; None when none does."""
        context = self._contexts.get(asked.context)
        if context is None or not context.questions:
            return None
        self._contexts.move_to_end(asked.context)
        rows = context.rows()
        if rows.shape[1] != asked.vector.shape[-1]:  # another embedder's
            return None
        cosines = rows @ asked.vector.ravel()
        near = [int(place) for place in np.argsort(-cosines) if cosines[place] >= at_least]
        return next((q for q in map(context.questions.__getitem__, near) if differs(q.text, asked.text) is None), None)

    def remember(self, question: Question, most: int) -> None:
        """Keep a question whose answer is kept, at most so many altogether."""
        self.forget(question)
        context = self._contexts.setdefault(question.context, _Context())
        if context.questions and context.questions[0].vector.shape != question.vector.shape:
            self._count -= len(context.questions)  # another embedder's
            context.questions.clear()
        context.questions.append(question)
        context.matrix = None
        self._count += 1
        self._contexts.move_to_end(question.context)
        if len(context.questions) > MOST_PER_CONTEXT:
            self._drop_first(question.context)
        while self._count > most:
            self._drop_first(next(iter(self._contexts)))

    def forget(self, question: Question) -> None:
        """Forget a question by its answer's key."""
        context = self._contexts.get(question.context)
        if context is None:
            return
        kept = [each for each in context.questions if each.key != question.key]
        self._count -= len(context.questions) - len(kept)
        context.questions, context.matrix = kept, None

    def _drop_first(self, name: bytes) -> None:
        context = self._contexts[name]
        if context.questions:
            del context.questions[0]
            context.matrix = None
            self._count -= 1
        if not context.questions:
            del self._contexts[name]
