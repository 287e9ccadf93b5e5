"""A user's own judge decides an A/B test; what it fails to judge is said, and is never an answer."""

from __future__ import annotations

from controlplane.domain.ab_tests.ab_test import AbOptions, AbState
from controlplane.domain.ab_tests.metrics import AbMetric
from controlplane.domain.door.judging import JudgeOptions, Sample
from controlplane.domain.errors import Unavailable
from controlplane.services.ab_tests.judging import AnswerJudging
from controlplane.services.ab_tests.planned import Expected
from tests.builders_serving import CHAT
from tests.fakes.judge import FakeJudge, FakeSamples
from tests.fakes.store import FakeStore
from tests.integration.controller.site import Site
from tests.integration.controller.test_ab_tests import a_site, challenger, latest, start

PLANTED = "planted-words-of-a-user"
BY_JUDGE = AbOptions(metric=AbMetric.JUDGE, minimum_effect_percent=20, min_hours=0, guard_points=99)
HALF = Expected(baseline=0.5, spread=0.3)
JUDGE = JudgeOptions(command=("judge",), tenants=("default",), sample_percent=100, batch=200)


class Judged:
    """A site whose service has a judge, and the pass that asks it; every answer says which arm it is of."""

    def __init__(self) -> None:
        self.site = a_site()
        self.samples, self.judge = FakeSamples(), FakeJudge(lambda each: float("good" in each.answer))
        self.with_judge(JUDGE)
        self.made = start(self.site, options=BY_JUDGE, expected=HALF)
        self.judging = AnswerJudging(self.site.store, self.samples, self.judge, self.site.judged, self.site.clock)
        self._seen = 0

    def with_judge(self, judge: JudgeOptions | None) -> None:
        saved = self.site.store.get_service(CHAT)
        spec = saved.value.spec.evolve(ab_judge=judge)
        self.site.store.save_service(saved.value.evolve(spec=spec), saved.version)

    def seconds(self, count: int) -> list[str]:
        """Let seconds go by: traffic, what gateways sampled of it, a pass of the judge. Returns what it told."""
        told: list[str] = []
        for _ in range(count):
            self.site.passes(1, requests=20)
            new = self.site.records.records[self._seen :]
            self._seen = len(self.site.records.records)
            sampled = self.site.table.services[0].sampling is not None
            self.samples.kept += [self._sample(each.id, each.revision == challenger()) for each in new if sampled]
            told += self.judging.run()
        return told

    def _sample(self, name: str, good: bool) -> Sample:
        asked = {"prompt": PLANTED}
        return Sample(
            request_id=name, path="/v1/completions", asked=asked, answer=f"{PLANTED} {'good' if good else 'bad'}"
        )


def test_the_arm_whose_answers_are_scored_higher_wins() -> None:
    case = Judged()
    assert case.seconds(40) == []
    found = latest(case.site)
    assert (found.state, found.reason) == (AbState.CONCLUDED, f"{challenger()} is better")
    assert found.analysis is not None
    assert all(arm.judged > 20 for arm in found.analysis.arms)
    assert case.site.table.services[0].sampling is None


def test_no_word_of_what_was_judged_is_in_the_store_or_in_what_was_kept() -> None:
    case = Judged()
    case.seconds(5)
    case.judge.fails = Unavailable("the judge command failed", why="exit code 1")
    told = case.seconds(15)
    assert told
    assert isinstance(case.site.store, FakeStore)
    kept = [repr(vars(case.site.store)), repr(case.site.judged.all), repr(latest(case.site)), *told]
    assert case.judge.asked
    assert not any(PLANTED in each for each in kept)


def test_a_judge_that_fails_is_shown_asked_less_often_and_never_an_answer() -> None:
    case = Judged()
    case.judge.fails = Unavailable("the judge command failed", why="it took longer than 60 s")
    told = case.seconds(40)
    assert all("longer than 60 s" in each for each in told)
    assert 0 < case.judge.asked < 10
    found = latest(case.site)
    assert found.state is AbState.RUNNING
    assert found.analysis is not None
    assert "were not judged, the last: the judge command failed" in str(found.analysis.judge_problem)
    assert (found.analysis.winner, found.analysis.alike) == (None, False)
    case.judge.fails = None
    case.seconds(80)
    assert any(each.score is not None for each in case.site.judged.all)


def test_another_judge_than_the_test_began_with_is_given_nothing() -> None:
    case = Judged()
    case.seconds(5)
    case.with_judge(JUDGE.evolve(command=("other",)))
    case.seconds(2)
    assert case.site.table.services[0].sampling is None
    asked = case.judge.asked
    case.seconds(15)
    assert case.judge.asked == asked
    analysis = latest(case.site).analysis
    assert analysis is not None
    assert "not the one that the test began with" in str(analysis.judge_problem)


def test_a_controller_that_starts_anew_counts_the_same_scores() -> None:
    counted = set()
    for crash in (False, True):
        case = Judged()
        case.seconds(8)
        if crash:
            case.site.restart()
        case.seconds(12)
        analysis = latest(case.site).analysis
        assert analysis is not None
        counted.add(tuple((arm.judged, arm.users) for arm in analysis.arms))
    assert len(counted) == 1


def test_without_a_judge_nothing_is_asked_for() -> None:
    site = Site()
    site.serving()
    samples, judge = FakeSamples(), FakeJudge()
    samples.kept = [Sample(request_id="r", path="/v1/completions", asked={}, answer="a")]
    assert list(AnswerJudging(site.store, samples, judge, site.judged, site.clock).run()) == []
    assert (len(samples.kept), judge.asked) == (1, 0)
