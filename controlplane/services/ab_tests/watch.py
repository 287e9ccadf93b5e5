"""The controller's look at one test: count what came, judge now and then, say what is next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from controlplane.domain.ab_tests.ab_test import AbAnalysis, AbState, AbTest, AbTestId
from controlplane.domain.ab_tests.counting import Users
from controlplane.domain.ab_tests.judging import judge
from controlplane.domain.ab_tests.policy import AbFacts, advance, event_of
from controlplane.domain.base import RevisionId
from controlplane.domain.errors import Unavailable
from controlplane.domain.hardware import usd_per_hour
from controlplane.domain.serving import Service
from controlplane.domain.slo import SloSet
from controlplane.ports.gateways import JudgedFeed, Position, RecordFeed, ScoreFeed
from controlplane.ports.store import Store, Versioned
from controlplane.services.ab_tests.judging import judge_of
from controlplane.services.fleet.engines import Trouble
from controlplane.services.fleet.world import World, exits

LOOK_EVERY = timedelta(seconds=10)
"""Bounds hold at every look, so looking seldom costs nothing but time, and saves writes."""
SETTLED = timedelta(seconds=5)
"""Requests that arrive so soon after the start may have been split by the table before: they are not counted."""


class AbWatcher:
    """Looks at tests of all services; a new controller counts anew, to the same result."""

    def __init__(
        self, *, store: Store, records: RecordFeed, scores: ScoreFeed | None, judged: JudgedFeed | None = None
    ) -> None:
        self._store = store
        self._records = records
        self._scores = scores
        self._judged = judged
        self._counted: dict[AbTestId, _Counted] = {}

    def step(
        self,
        world: World,
        saved: Versioned[AbTest],
        troubles: Sequence[Trouble],
        *,
        unrouted: str | None,
        now: datetime,
    ) -> AbTest:
        """Move one test on, save what it became and return it. Raises StaleVersion, Unavailable."""
        before = saved.value
        after = advance(before, self._facts(world, before, troubles, unrouted, now), now)
        if after != before:
            events = [event_of(after, actor="controller", now=now)] if after.state is not before.state else []
            self._store.save_ab_test(after, saved.version, events=events)
        if after.is_over:
            self._counted.pop(after.test_id, None)
        return after

    def _facts(
        self, world: World, test: AbTest, troubles: Sequence[Trouble], unrouted: str | None, now: datetime
    ) -> AbFacts:
        challengers = {arm.revision: arm for arm in test.challengers}
        ended = [engine for name in challengers for engine in exits(world, name)]
        mine = [trouble for trouble in troubles if trouble.revision in challengers]
        return AbFacts(
            ready=all(len(world.ready(name)) >= arm.replicas for name, arm in challengers.items()),
            exits=len(ended),
            exit_reason=f"{ended[-1].failure}: {ended[-1].failure_detail}" if ended else "",
            refused=next((trouble.reason for trouble in mine if trouble.for_good), None),
            shortage=next((trouble.reason for trouble in mine if not trouble.for_good), None),
            ended=_ended(world, test),
            analysis=None if unrouted is not None else self._analysis(world, test, now),
        )

    def _analysis(self, world: World, test: AbTest, now: datetime) -> AbAnalysis | None:
        if test.state is not AbState.RUNNING or test.started_at is None:
            return None
        if test.analysis is not None and now - test.analysis.at < LOOK_EVERY:
            return None
        slos = world.service.spec.slos
        counted = self._counted.get(test.test_id)
        if counted is None or counted.slos != slos:
            counted = self._counted[test.test_id] = _Counted(test, slos, self._lapse(test))
        try:
            counted.catch_up(self._records, self._scores, self._judged)
        except Unavailable:  # said elsewhere; what was counted is kept, and the next look goes on
            return None
        found = judge(test, counted.users, now=now, usd_per_hour=self._usd_per_hour(world, test))
        judge_problem = found.judge_problem or _other_judge(world.service, test)
        return found.evolve(
            problem=found.problem or _lost(test, found), judge_problem=judge_problem, **_nobody(test, found)
        )

    def _lapse(self, test: AbTest) -> float:
        return self._store.get_revision(test.control.revision).engine.time_lapse

    def _usd_per_hour(self, world: World, test: AbTest) -> Mapping[RevisionId, float]:
        pool = world.service.spec.gpus
        gpus = {arm.revision: self._store.get_revision(arm.revision).config.gpus_per_replica for arm in test.arms}
        return {arm.revision: usd_per_hour(pool, arm.replicas * gpus[arm.revision]) for arm in test.arms}


class _Counted:
    """The users of one test, counted as they come."""

    def __init__(self, test: AbTest, slos: SloSet, time_lapse: float) -> None:
        assert test.started_at is not None, "only what runs is counted"
        self.slos = slos
        self.users = Users([arm.revision for arm in test.arms], slos.latency, time_lapse=time_lapse)
        self._service, self._since = test.service, test.started_at + SETTLED
        self._records_read: Position = {}
        self._scores_read: Position = {}
        self._judged_read: Position = {}

    def catch_up(self, records: RecordFeed, scores: ScoreFeed | None, judged: JudgedFeed | None) -> None:
        for news in records.follow(self._service, since=self._since, position=self._records_read):
            for record in news.records:
                self.users.add(record)
            self._records_read = news.position
        if scores is not None:
            given = scores.scores(since=self._since, position=self._scores_read)
            for score in given.scores:
                self.users.score(score)
            self._scores_read = given.position
        if judged is not None:
            said = judged.judged(self._service, since=self._since, position=self._judged_read)
            for each in said.judged:
                self.users.judged(each)
            self._judged_read = said.position


def _ended(world: World, test: AbTest) -> str | None:
    if world.service.stopped:
        return "the service was stopped"
    if world.service.stable != test.control.revision:
        return f"{world.service.stable} is stable now, the test was against {test.control.revision}"
    return None if world.rollout is None else f"rollout {world.rollout.rollout_id} began"


def _other_judge(service: Service, test: AbTest) -> str | None:
    if test.judge is None or judge_of(service, test) is not None:
        return None
    return "the service's judge is not the one that the test began with: nothing is judged any more"


def _users(analysis: AbAnalysis) -> int:
    return sum(arm.users for arm in analysis.arms)


def _lost(test: AbTest, found: AbAnalysis) -> str | None:
    """After a restart everything is counted anew: say so when records were kept for less time than the test takes."""
    if test.analysis is None or _users(found) >= _users(test.analysis):
        return None
    lost = _users(test.analysis) - _users(found)
    return f"records of {lost} users are gone: gateways keep them for less time (--retention-h) than the test takes"


def _nobody(test: AbTest, found: AbAnalysis) -> dict[str, object]:
    """With records gone nobody has won."""
    return {"winner": None, "alike": False} if _lost(test, found) is not None else {}
