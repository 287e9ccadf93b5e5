"""An adapter's canary is judged by the requests of both versions, and promoted or taken back."""

from __future__ import annotations

import pytest

from controlplane.domain.adapters import ServedAdapter
from controlplane.domain.rollouts.analysis import Analysis, Verdict
from controlplane.domain.rollouts.counting import NOTHING
from controlplane.domain.rollouts.rollout_options import CeilingPolicy
from controlplane.services.adapters.manage import load_adapter, promote_adapter, roll_back_adapter
from controlplane.services.adapters.verdict import AdapterJudge, Ending, ending_of, read_judgements
from tests.builders_serving import CHAT, NOW, some_options
from tests.fakes.killing import Killed, Killer, Moment
from tests.remembering import remembered
from tests.unit.fleet.test_adapters import SUPPORT, Place

OPTIONS = some_options(5, 100, miss_ratio_margin=0.4, error_ratio_margin=0.4)


class Judged(Place):
    """A place with a canary of the adapter, and one who judges it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        saved, version = self.store.get_service(CHAT)
        self.store.save_service(saved.evolve(spec=saved.spec.evolve(rollout=OPTIONS)), version)
        self.load()
        self.keep()
        self.new_judge()

    def new_judge(self) -> None:
        self.judge = AdapterJudge(store=self.store, records=self.records, clock=self.clock)

    def canary(self, *, judged: bool = True) -> None:
        new = SUPPORT._replace(path="/adapters/better", judged=judged)
        load_adapter(self.store, CHAT, new, share_percent=20, actor="ann", now=self.clock())
        self.keep()

    def asked(self, *, seconds: int, slow: bool = False, broken: bool = False) -> None:
        """Let users ask for a while, ten times a second of each version."""
        for _ in range(seconds):
            for number in (1, 2):
                for _ in range(10):
                    self._one(number, slow=slow and number == 2, broken=broken and number == 2)
            self.clock.go_on(1)
            self.judge.run()

    def _one(self, number: int, *, slow: bool, broken: bool) -> None:
        stable = self.service.stable
        engine = self.engines()[0].spec.engine_id
        found = self.record(stable, engine, ttft_ms=900 if slow else 90, e2e_ms=950 if slow else 140)
        failed = {"status": 500, "error": "upstream_5xx"} if broken else {}
        self.records.add(found.evolve(adapter=f"support--{number}", **failed))

    @property
    def adapter(self) -> ServedAdapter:
        found = self.service.adapter("support")
        assert found is not None
        return found

    def told(self) -> list[tuple[str, str]]:
        events = self.store.list_events(subject="adapter/chat/support")
        return [(each.action, each.reason) for each in events if each.actor == "controller"]


def test_a_canary_that_is_no_worse_is_promoted() -> None:
    place = Judged()
    place.canary()
    place.asked(seconds=2)
    assert place.adapter.shares == ((1, 80), (2, 20))
    assert "of at least 50 canary requests" in read_judgements(place.store, CHAT)["support"].reason
    place.asked(seconds=20)
    assert (place.adapter.stable, place.adapter.canary) == (2, None)
    ((action, reason),) = place.told()
    assert (action, reason.startswith("version 2: certainly within the margins")) == ("adapter.promoted", True)
    assert read_judgements(place.store, CHAT) == {}


def test_a_slower_canary_is_taken_back_with_the_reason() -> None:
    place = Judged()
    place.canary()
    place.asked(seconds=30, slow=True)
    assert (place.adapter.stable, place.adapter.canary) == (1, None)
    ((action, reason),) = place.told()
    assert (action, reason.startswith("version 2: certainly worse: SLO misses")) == ("adapter.rolled_back", True)


def test_a_canary_that_fails_is_taken_back_within_seconds() -> None:
    place = Judged()
    place.canary()
    place.asked(seconds=2, broken=True)
    assert place.adapter.canary is None
    assert "canary requests ended in 5xx" in place.told()[0][1]


def test_a_canary_left_to_a_person_is_never_decided() -> None:
    place = Judged()
    place.canary(judged=False)
    place.asked(seconds=20, slow=True)
    assert place.adapter.canary == 2
    assert place.told() == []


def test_the_next_canary_is_judged_by_its_own_requests() -> None:
    place = Judged()
    place.canary()
    place.asked(seconds=3)
    roll_back_adapter(place.store, CHAT, "support", to=None, actor="ann", now=place.clock())
    place.canary()
    assert place.adapter.canary == 3
    place.asked(seconds=20)
    assert place.adapter.canary == 3
    assert read_judgements(place.store, CHAT)["support"].canary.requests == 0


def test_whoever_takes_over_counts_the_same_requests_to_the_same_end() -> None:
    place = Judged()
    place.canary()
    for _ in range(22):
        place.asked(seconds=1)
        place.new_judge()
    assert place.adapter.stable == 2
    assert len(place.told()) == 1


def test_a_person_who_decides_first_is_not_overruled() -> None:
    place = Judged()
    place.canary()
    for number in range(60):
        place._one(1 + number % 2, slow=number % 2 == 1, broken=False)
    promote_adapter(place.store, CHAT, "support", actor="ann", now=place.clock())
    place.asked(seconds=20, slow=True)
    assert (place.adapter.stable, place.adapter.canary) == (2, None)
    assert place.told() == []


def judged_under(killer: Killer) -> Judged:
    """Let a canary be judged to its end by one who may be killed."""
    place = Judged()
    place.canary()
    place.judge = AdapterJudge(store=killer.wrap(place.store), records=killer.wrap(place.records), clock=place.clock)
    for _ in range(20):
        try:
            place.asked(seconds=1)
        except Killed:
            place.new_judge()
        if place.told():
            break
    place.new_judge()
    place.judge.run()
    return place


@pytest.mark.parametrize("moment", Moment)
def test_killed_at_any_call_the_canary_is_promoted_once(moment: Moment) -> None:
    unharmed = Killer(at=0, moment=moment)
    judged_under(unharmed)
    assert unharmed.calls > 10
    for at in range(1, unharmed.calls):
        place = judged_under(Killer(at=at, moment=moment))
        assert (place.adapter.stable, place.adapter.canary) == (2, None), f"killed {moment} call {at}"
        assert len(place.told()) == 1


@pytest.mark.parametrize(
    ("verdict", "policy", "requests", "elapsed_s", "ending"),
    [
        (Verdict.PASS, CeilingPolicy.PAUSE, 50, 1, Ending.PROMOTED),
        (Verdict.FAIL, CeilingPolicy.PAUSE, 50, 1, Ending.ROLLED_BACK),
        (Verdict.ERROR, CeilingPolicy.ABORT, 50, 599, None),
        (Verdict.INCONCLUSIVE, CeilingPolicy.ABORT, 50, 600, Ending.ROLLED_BACK),
        (Verdict.INCONCLUSIVE, CeilingPolicy.PROCEED, 50, 600, Ending.PROMOTED),
        (Verdict.INCONCLUSIVE, CeilingPolicy.PROCEED, 49, 600, None),
        (Verdict.INCONCLUSIVE, CeilingPolicy.PAUSE, 50, 600, None),
    ],
)
def test_a_canary_ends_by_its_verdict_or_by_the_policy_for_when_time_is_over(
    verdict: Verdict, policy: CeilingPolicy, requests: int, elapsed_s: float, ending: Ending | None
) -> None:
    steps = tuple(step.evolve(on_ceiling=policy) for step in OPTIONS.steps)
    analysis = Analysis(verdict=verdict, reason="x", at=NOW, canary=NOTHING.evolve(requests=requests))
    assert ending_of(analysis, OPTIONS.evolve(steps=steps), elapsed_s) is ending


def test_a_canary_that_is_over_leaves_no_records_behind() -> None:
    place = Judged()
    place.canary()
    place.asked(seconds=2)
    assert remembered(place.judge).total() > 40
    roll_back_adapter(place.store, CHAT, "support", to=None, actor="ann", now=place.clock())
    place.judge.run()
    assert remembered(place.judge).total() == 0
