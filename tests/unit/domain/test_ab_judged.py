"""What a judge command may say, and what its scores say of an arm."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controlplane.domain.ab_tests.ab_test import AbOptions, AbTest, Grade
from controlplane.domain.ab_tests.counting import Users
from controlplane.domain.ab_tests.judging import judge
from controlplane.domain.ab_tests.metrics import AbMetric
from controlplane.domain.base import RevisionId
from controlplane.domain.door.judging import Judged, Sample, is_sampled, lines_for, scores_in
from controlplane.domain.errors import InvalidInput
from tests.builders_ab import CHALLENGER, CONTROL, an_ab_test
from tests.builders_serving import CHAT, NOW
from tests.unit.domain.test_ab_counting import SLOS, record


def judged(name: str = "r1", score: float | None = 1.0, **changes: Any) -> Judged:
    problem = "it failed" if score is None else None
    given = {"at": NOW, "service": CHAT, "test": "chat-ab1", "request_id": name, "score": score, "problem": problem}
    return Judged(**given | changes)


def counted() -> Users:
    return Users([CONTROL, CHALLENGER], SLOS)


@pytest.mark.parametrize("first", ["record", "score"])
def test_a_score_counts_for_the_arm_of_its_request_whichever_comes_first(first: str) -> None:
    users = counted()
    if first == "score":
        users.judged(judged(score=0.25))
    users.add(record(revision=CHALLENGER, session="ann"))
    if first == "record":
        users.judged(judged(score=0.25))
    mine = users.arms[CHALLENGER]
    assert (mine.judged, mine.means[AbMetric.JUDGE].users, mine.means[AbMetric.JUDGE].mean) == (1, 1, 0.25)
    assert users.arms[CONTROL].judged == 0


def test_a_user_counts_once_by_the_mean_of_their_scores() -> None:
    users = counted()
    for name, score in (("r1", 0.0), ("r2", 1.0), ("r3", 0.5)):
        users.add(record(name, revision=CONTROL, session="ann"))
        users.judged(judged(name, score))
    means = users.arms[CONTROL].means[AbMetric.JUDGE]
    assert (means.users, means.mean) == (1, 0.5)


def test_a_score_of_another_key_or_of_another_arms_user_counts_for_nobody() -> None:
    users = counted()
    users.add(record("r1", revision=CONTROL, session="ann", key="team"))
    users.judged(judged("r1", key="other"))
    users.add(record("r2", revision=CHALLENGER, session="ann", key="team"))  # crossed
    users.judged(judged("r2", key="team"))
    assert [tally.judged for tally in users.arms.values()] == [0, 0]


def test_what_was_not_judged_is_counted_and_said_and_is_no_score() -> None:
    users = counted()
    users.add(record(revision=CONTROL))
    users.judged(judged(score=None))
    found = judge(an_ab_test(), users, now=NOW)
    assert [arm.unjudged for arm in found.arms] == [1, 0]
    assert found.judge_problem == "1 of 1 sampled answers were not judged, the last: it failed"
    assert all(each.metric is not AbMetric.JUDGE for each in found.others)


def decided_by(metric: AbMetric) -> AbTest:
    return an_ab_test(options=AbOptions(metric=metric, minimum_effect_percent=5))


def fed(scores: dict[RevisionId, tuple[int, float]]) -> Users:
    """Users of both arms by their shares, of whom so many have a judged answer."""
    users = counted()
    for arm, (count, score) in scores.items():
        for number in range(800):
            users.add(record(f"{arm}-{number}", revision=arm, session=f"{arm}-{number}"))
            if number < count:
                users.judged(judged(f"{arm}-{number}", score))
    return users


def test_the_judge_decides_as_any_other_metric_does() -> None:
    found = judge(decided_by(AbMetric.JUDGE), fed({CONTROL: (400, 0.3), CHALLENGER: (400, 0.8)}), now=NOW)
    assert (found.winner, found.problem) == (CHALLENGER, None)


@pytest.mark.parametrize("metric", [AbMetric.JUDGE, AbMetric.ERRORS])
def test_scores_of_users_that_are_no_fair_sample_are_nobodys_win(metric: AbMetric) -> None:
    users = fed({CONTROL: (400, 0.3), CHALLENGER: (100, 0.9)})  # the judge fails on most of the challenger's answers
    found = judge(decided_by(metric), users, now=NOW)
    assert found.winner is None
    assert "400 of 500 users with a judged answer" in str(found.judge_problem)
    assert (found.problem is not None) == (metric is AbMetric.JUDGE)
    said = [each.grade for each in found.others if each.metric is AbMetric.JUDGE]
    assert said == ([] if metric is AbMetric.JUDGE else [Grade.UNDECIDED])


def test_users_are_sampled_by_their_hash_and_a_test_samples_others() -> None:
    names = [f"user-{number}" for number in range(4000)]
    mine = {name for name in names if is_sampled("ab1", name, 25)}
    assert 900 < len(mine) < 1100
    assert mine != {name for name in names if is_sampled("ab2", name, 25)}
    assert all(is_sampled("ab1", name, 100) for name in names)


def test_the_judge_is_not_told_who_answered_or_who_asked() -> None:
    sample = Sample(request_id="r1", key="team", path="/v1/completions", asked={"prompt": "2+2"}, answer="4")
    (line,) = lines_for([sample]).splitlines()
    assert json.loads(line) == {"id": 0, "path": "/v1/completions", "request": {"prompt": "2+2"}, "answer": "4"}
    assert "2+2" not in repr(sample)


def test_scores_may_come_in_any_order() -> None:
    assert scores_in(b'{"id": 1, "score": 0.5}\n{"id": 0, "score": 1}\n', 2) == [1.0, 0.5]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b'{"id": 0, "score": 1}',
        b'{"id": 0, "score": 1}\n{"id": 0, "score": 1}',
        b'{"id": 0, "score": 1}\n{"id": 2, "score": 1}',
        b'{"id": 0, "score": 1}\n{"id": 1, "score": 1.1}',
        b'{"id": 0, "score": 1}\n{"id": 1, "score": NaN}',
        b'{"id": 0, "score": 1}\n{"id": 1, "score": true}',
        b'{"id": 0, "score": 1}\n{"id": true, "score": 1}',
        b'{"id": 0, "score": 1}\n{"id": 1, "score": "1"}',
        b'{"id": 0, "score": 1}\n{"id": 1, "score": 1, "answer": "planted"}',
        b'{"id": 0, "score": 1}\nplanted',
        b'{"id": 0, "score": 1}\n' + b"[" * 100_000,
        b"\xff\n\xff",
    ],
)
def test_a_judge_that_lies_in_its_format_says_nothing_at_all(said: bytes) -> None:
    with pytest.raises(InvalidInput, match="refused") as refusal:
        scores_in(said, 2)
    assert "planted" not in str(refusal.value)
