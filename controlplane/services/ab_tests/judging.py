"""Let the service's own command judge sampled answers of A/B tests that run; it takes a while, so not in a pass.

What is taken from a gateway is nowhere else: if this process dies, those answers are not judged. They were sampled by
chance, so nothing is wrong but that there are fewer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from controlplane.domain.ab_tests.ab_test import AbState, AbTest, AbTestId
from controlplane.domain.door.judging import Judged, JudgeOptions, Sample
from controlplane.domain.errors import InvalidInput, Unavailable
from controlplane.domain.serving import Service
from controlplane.ports import Clock
from controlplane.ports.gateways import SampleSource
from controlplane.ports.judging import AnswerJudge, JudgedLog
from controlplane.ports.store import Store

MOST_SKIPPED = 32
"""Passes left out at most after failures in a row: a judge that is broken is not started again every second."""


@dataclass
class AnswerJudging:
    """One for an installation; a pass starts the command at most once per service."""

    store: Store
    samples: SampleSource
    judge: AnswerJudge
    log: JudgedLog
    clock: Clock
    _failed: dict[AbTestId, int] = field(default_factory=dict)
    _skip: dict[AbTestId, int] = field(default_factory=dict)

    def run(self) -> Iterator[str]:
        """Judge what was sampled; yields what could not be done, without a word of any text."""
        for service, _ in self.store.list_services():
            test = running_test(self.store, service)
            judge = None if test is None else judge_of(service, test)
            if test is not None and judge is not None and not self._waits(test.test_id):
                yield from self._one(test, judge)

    def _waits(self, test: AbTestId) -> bool:
        left = self._skip.get(test, 0)
        self._skip[test] = max(0, left - 1)
        return left > 0

    def _one(self, test: AbTest, judge: JudgeOptions) -> Iterator[str]:
        taken = self.samples.take_samples(test.test_id, most=judge.batch)
        if taken.dropped:
            yield f"{test.test_id}: the judge is too slow for what is sampled, answers were left out"
        if not taken.samples:
            return
        judged, problem = self._judged(test, judge, taken.samples)
        try:
            self.log.keep(test.service, judged)
        except Unavailable as error:
            problem = str(error)
        self._note(test.test_id, failed=problem is not None)
        if problem is not None:
            yield f"{test.test_id}: {problem}"

    def _judged(
        self, test: AbTest, judge: JudgeOptions, samples: Sequence[Sample]
    ) -> tuple[Sequence[Judged], str | None]:
        problem: str | None = None
        scores: Sequence[float | None] = [None] * len(samples)
        try:
            scores = self.judge.scores(judge, samples)
        except (Unavailable, InvalidInput) as error:
            problem = str(error)
        now = self.clock()
        return [
            Judged(
                at=now,
                service=test.service,
                test=test.test_id,
                request_id=sample.request_id,
                key=sample.key,
                score=score,
                problem=problem,
            )
            for sample, score in zip(samples, scores, strict=True)
        ], problem

    def _note(self, test: AbTestId, *, failed: bool) -> None:
        self._failed[test] = self._failed.get(test, 0) + 1 if failed else 0
        self._skip[test] = min(MOST_SKIPPED, 2 ** self._failed[test]) if failed else 0


def running_test(store: Store, service: Service) -> AbTest | None:
    """Return the test that splits the service's traffic now, if any."""
    newest = store.list_ab_tests(service.name, limit=1)
    return newest[0].value if newest and newest[0].value.state is AbState.RUNNING else None


def judge_of(service: Service, test: AbTest) -> JudgeOptions | None:
    """Return who judges the test: the judge it began with, as long as the service has that one."""
    judge = service.spec.ab_judge
    return judge if judge is not None and judge.digest == test.judge else None
