"""AnswerJudge, SampleSource and the log of what was said, in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from controlplane.domain.ab_tests.ab_test import AbTestId
from controlplane.domain.base import ServiceName
from controlplane.domain.door.judging import Judged, JudgeOptions, Sample
from controlplane.domain.errors import FleetuneError
from controlplane.ports.gateways import Judgements, Position, Taken


class FakeJudge:
    """Implements `ports.AnswerJudge`: scores by the answer. `fails` is raised instead."""

    def __init__(self, score: Callable[[Sample], float] = lambda _: 1.0) -> None:
        self.score = score
        self.fails: FleetuneError | None = None
        self.asked = 0

    def scores(self, judge: JudgeOptions, samples: Sequence[Sample]) -> Sequence[float]:
        self.asked += 1
        if self.fails is not None:
            raise self.fails
        return [self.score(each) for each in samples]


class FakeSamples:
    """Implements `ports.SampleSource`."""

    def __init__(self) -> None:
        self.kept: list[Sample] = []
        self.dropped = 0

    def take_samples(self, test: AbTestId, *, most: int) -> Taken:
        taken, self.kept = self.kept[:most], self.kept[most:]
        dropped, self.dropped = self.dropped, 0
        return Taken(taken, dropped)


class FakeJudged:
    """Implements `ports.JudgedLog` and `ports.JudgedFeed`."""

    def __init__(self) -> None:
        self.all: list[Judged] = []

    def keep(self, service: ServiceName, judged: Sequence[Judged]) -> None:
        self.all += judged

    def judged(self, service: ServiceName, *, since: datetime, position: Position) -> Judgements:
        new = self.all[position.get("", 0) :]
        mine = [each for each in new if each.service == service and each.at >= since]
        return Judgements(mine, {"": len(self.all)})
