"""What users say of each arm, counted as records and scores come. Pure.

A user is the hash that splits the traffic; a request without one is a user of its own. A user belongs to the arm that
served them first: what another arm serves them later (a replica was down) is not counted, and said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controlplane.domain.ab_tests.means import Means
from controlplane.domain.ab_tests.metrics import AbMetric, measured
from controlplane.domain.base import RevisionId
from controlplane.domain.door.feedback import Feedback
from controlplane.domain.door.judging import Judged
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.slo import LatencySlo

MOST_USERS = 500_000
"""Users counted; further ones are not, so a test says what it knows of the first."""
_MOST_REQUESTS = 200_000  # whose scores can still be taken, the newest

_Request = tuple[str, str | None]  # its id, which clients may choose, and the name of the key it came with


@dataclass
class ArmTally:
    """One arm's users and what they had."""

    users: int = 0
    requests: int = 0
    scores: int = 0
    judged: int = 0
    unjudged: int = 0
    stops: Counter[str] = field(default_factory=Counter)
    means: Mapping[AbMetric, Means] = field(default_factory=lambda: {metric: Means() for metric in AbMetric})


class Users:
    """All arms of one test. Feed records in any order of their arms; scores before or after their requests."""

    def __init__(self, arms: Sequence[RevisionId], slos: Sequence[LatencySlo], *, time_lapse: float = 1.0) -> None:
        self.arms: Mapping[RevisionId, ArmTally] = {arm: ArmTally() for arm in arms}
        self.crossed = 0
        self._slos = slos
        self._time_lapse = time_lapse
        self._arm_of: dict[Hashable, RevisionId] = {}
        self._sums: dict[tuple[Hashable, AbMetric], tuple[float, int]] = {}
        self._asked: dict[_Request, Hashable] = {}
        self._scores: dict[_Request, dict[str, float]] = {}  # by who scored
        self._judged: dict[_Request, Judged] = {}  # whose requests are not known yet
        self.judge_problem: str | None = None  # the last one

    def add(self, record: GatewayRecord) -> None:
        """Count one request, unless it says nothing of an arm."""
        if record.revision is None or record.revision not in self.arms or record.retried or record.replayed:
            return
        if record.version is not None:  # asked for by name, not by the split
            return
        user = record.session or (record.gateway, record.id)
        arm = self._assigned(user, record.revision)
        if arm is None:
            return
        tally = self.arms[arm]
        tally.requests += 1
        tally.stops[record.stop or "unknown"] += record.ok
        for metric, value in measured(record, self._slos, time_lapse=self._time_lapse).items():
            self._take(user, metric, value)
        self._remember(record, user)

    def score(self, given: Feedback) -> None:
        """Count a person's score. A second one of the same person for the same request takes the place of the first."""
        name = (given.request_id, given.key)
        by_whom = self._scores.setdefault(name, {})
        former = by_whom.get(given.scorer)
        by_whom[given.scorer] = given.score
        user = self._asked.get(name)
        if user is None:
            _forget_oldest(self._scores)
        elif former is None:
            self._take_score(user, given.score)
        else:
            self._take(user, AbMetric.FEEDBACK, given.score - former, again=True)

    def judged(self, given: Judged) -> None:
        """Count what the judge said of an answer; what it did not say anything of is counted too."""
        name = (given.request_id, given.key)
        self.judge_problem = given.problem or self.judge_problem
        user = self._asked.get(name)
        if user is None:
            self._judged[name] = given
            _forget_oldest(self._judged)
        else:
            self._take_judged(user, given)

    def _assigned(self, user: Hashable, revision: RevisionId) -> RevisionId | None:
        arm = self._arm_of.get(user)
        if arm is None and len(self._arm_of) < MOST_USERS:
            self._arm_of[user] = arm = revision
            self.arms[revision].users += 1
        self.crossed += arm is not None and arm != revision
        return arm if arm == revision else None

    def _remember(self, record: GatewayRecord, user: Hashable) -> None:
        name = (record.id, record.key)
        if name in self._asked:
            return  # a client's own id, used twice: scores go to its first request
        self._asked[name] = user
        _forget_oldest(self._asked)
        for score in self._scores.get(name, {}).values():
            self._take_score(user, score)
        judged = self._judged.pop(name, None)
        if judged is not None:
            self._take_judged(user, judged)

    def _take_judged(self, user: Hashable, given: Judged) -> None:
        tally = self.arms[self._arm_of[user]]
        tally.judged += given.score is not None
        tally.unjudged += given.score is None
        if given.score is not None:
            self._take(user, AbMetric.JUDGE, given.score)

    def _take_score(self, user: Hashable, score: float) -> None:
        self.arms[self._arm_of[user]].scores += 1
        self._take(user, AbMetric.FEEDBACK, score)

    def _take(self, user: Hashable, metric: AbMetric, value: float, *, again: bool = False) -> None:
        total, count = self._sums.get((user, metric), (0.0, 0))
        before = total / count if count else None
        total, count = total + value, count if again else count + 1
        self._sums[user, metric] = total, count
        self.arms[self._arm_of[user]].means[metric].take(total / count, before)


def _forget_oldest(kept: dict[_Request, Any]) -> None:
    if len(kept) > _MOST_REQUESTS:
        del kept[next(iter(kept))]
