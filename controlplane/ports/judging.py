"""Who judges sampled answers of A/B tests, and where what was said is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from controlplane.domain.base import ServiceName
from controlplane.domain.door.judging import Judged, JudgeOptions, Sample


class AnswerJudge(Protocol):
    def scores(self, judge: JudgeOptions, samples: Sequence[Sample]) -> Sequence[float]:
        """Return a score from 0 to 1 for each sample, in their order.

        Raises Unavailable when the command cannot be started, fails or takes too long, InvalidInput when what it says
        is refused; neither repeats anything of the samples or of what it said. Nothing of it runs afterwards.
        """


class JudgedLog(Protocol):
    def keep(self, service: ServiceName, judged: Sequence[Judged]) -> None:
        """Keep what was said. Raises Unavailable."""
