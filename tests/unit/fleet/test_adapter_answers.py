"""An adapter's canary answers the fixed prompts beside stable before any user gets it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from controlplane.domain.adapters import ServedAdapter
from controlplane.domain.engines.engine import EngineKind
from controlplane.domain.errors import StaleVersion, Unavailable
from controlplane.domain.quality import GreedyAnswer
from controlplane.domain.rollouts.rollout_options import CeilingPolicy
from controlplane.services.adapters.answers import GIVEN_UP_AFTER, AdapterAnswers
from controlplane.services.adapters.manage import load_adapter, promote_adapter, roll_back_adapter, save_adapter
from tests.builders_serving import CHAT
from tests.fakes.killing import Killed, Killer, Moment
from tests.unit.fleet.test_adapters import ENGINE, SUPPORT, Place

REAL = ENGINE.evolve(kind=EngineKind.VLLM, version="0.26")
SAME = GreedyAnswer(tokens=(1, 2, 3, 4), prompt_logprobs=(-1.0, -2.0))
OTHER = GreedyAnswer(tokens=(9, 9, 9, 9), prompt_logprobs=(-1.0, -2.0))


class Probe:
    """Answers by the name it is asked for; `silent` says nothing, `worth` is what a user's command prints."""

    def __init__(self) -> None:
        self.by_name: dict[str, GreedyAnswer] = {}
        self.silent = False
        self.worth = 0.5
        self.asked: list[str] = []

    def answers(self, url: str, model: str, prompts: Sequence[str], *, api_key: str | None) -> tuple[GreedyAnswer, ...]:
        self.asked.append(model)
        if self.silent:
            raise Unavailable("the engine gave no answer to compare")
        return (self.by_name.get(model, SAME),) * len(prompts)

    def score(self, command: Sequence[str], url: str, model: str) -> float:
        self.asked.append(model)
        return self.worth


class Asked(Place):
    """A place of real engines with a canary of the adapter that waits for its answers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.load()
        self.described(engine=REAL)
        self.keep()
        self.probe = Probe()
        self.comparer = AdapterAnswers(store=self.store, fleet=self.fleet, probe=self.probe, clock=self.clock)

    def described(self, **changes: Any) -> None:
        saved, version = self.store.get_service(CHAT)
        self.store.save_service(saved.evolve(spec=saved.spec.evolve(**changes)), version)

    def policy(self, policy: CeilingPolicy) -> None:
        self.described(rollout=self.service.spec.rollout.evolve(on_other_answers=policy))

    def canary(self, *, judged: bool = True) -> None:
        new = SUPPORT._replace(path="/adapters/better", judged=judged)
        load_adapter(self.store, CHAT, new, share_percent=20, actor="ann", now=self.clock())

    @property
    def adapter(self) -> ServedAdapter:
        found = self.service.adapter("support")
        assert found is not None
        return found

    def told(self) -> str:
        events = self.store.list_events(subject="adapter/chat/support")
        return " ".join(f"{each.action} {each.reason}" for each in events if each.actor == "controller")


def test_nobody_gets_it_before_both_versions_were_asked_in_one_engine() -> None:
    place = Asked()
    place.canary()
    assert not place.comparer.run_next()  # no engine has it yet
    assert (place.adapter.shares, place.adapter.is_judged) == (((1, 100),), False)
    place.keep()
    assert place.comparer.run_next()
    assert set(place.probe.asked) == {"support--1", "support--2"}
    assert (place.adapter.shares, place.adapter.is_judged) == (((1, 80), (2, 20)), True)
    assert "version 2: the canary answers as stable does" in place.told()
    assert not place.comparer.run_next()


@pytest.mark.parametrize(
    ("policy", "shares", "says"),
    [
        (None, ((1, 80), (2, 20)), "adapter.answers version 2: the canary answers otherwise than stable"),
        (CeilingPolicy.PROCEED, ((1, 80), (2, 20)), "otherwise"),
        (CeilingPolicy.ABORT, ((1, 100),), "adapter.rolled_back version 2: the canary answers otherwise"),
        (CeilingPolicy.PAUSE, ((1, 100),), "; held"),
    ],
)
def test_other_answers_are_said_and_what_is_declared_follows(policy: Any, shares: Any, says: str) -> None:
    place = Asked()
    if policy is not None:
        place.policy(policy)
    place.canary()
    place.keep()
    place.probe.by_name["support--2"] = OTHER
    assert place.comparer.run_next()
    assert place.adapter.shares == shares
    assert says in place.told()
    assert (place.adapter.canary is None) == (policy is CeilingPolicy.ABORT)


def test_one_that_is_held_is_a_persons_to_decide_and_is_not_asked_again() -> None:
    place = Asked()
    place.policy(CeilingPolicy.PAUSE)
    place.canary()
    place.keep()
    place.probe.by_name["support--2"] = OTHER
    assert place.comparer.run_next()
    assert not place.comparer.run_next()
    promoted = promote_adapter(place.store, CHAT, "support", actor="ann", now=place.clock())
    assert (promoted.stable, promoted.waits_for_answers, promoted.answers) == (2, False, None)


@pytest.mark.parametrize(("worth", "canary"), [(0.9, 2), (0.1, None)])
def test_the_users_own_command_scores_the_canary_and_too_low_a_score_takes_it_back(
    worth: float, canary: int | None
) -> None:
    place = Asked()
    quality = place.service.spec.tuning.quality.evolve(command=("score",), min_score=0.5)
    place.described(tuning=place.service.spec.tuning.evolve(quality=quality))
    place.canary()
    place.keep()
    place.probe.worth = worth
    assert place.comparer.run_next()
    assert (place.adapter.canary, place.probe.asked) == (canary, ["support--2"])


def test_an_engine_that_does_not_answer_is_asked_again_and_then_it_is_said() -> None:
    place = Asked()
    place.canary()
    place.keep()
    place.probe.silent = True
    for _ in range(GIVEN_UP_AFTER - 1):
        assert not place.comparer.run_next()
        assert place.adapter.waits_for_answers
    assert place.comparer.run_next()
    assert place.adapter.shares == ((1, 80), (2, 20))
    assert "not compared, tried 3 times" in place.told()


def test_one_left_to_a_person_and_one_of_an_emulated_engine_are_not_compared() -> None:
    place = Asked()
    place.canary(judged=False)
    assert place.adapter.shares == ((1, 80), (2, 20))
    roll_back_adapter(place.store, CHAT, "support", to=None, actor="ann", now=place.clock())
    place.described(engine=ENGINE)
    place.canary()
    assert place.adapter.shares == ((1, 80), (3, 20))


@pytest.mark.parametrize("moment", list(Moment))
def test_whichever_call_kills_it_the_next_one_compares(moment: Moment) -> None:
    at, survived = 0, False
    while not survived:
        at += 1
        place = Asked()
        place.canary()
        place.keep()
        killer = Killer(at=at, moment=moment)
        dies = AdapterAnswers(
            store=killer.wrap(place.store), fleet=killer.wrap(place.fleet), probe=place.probe, clock=place.clock
        )
        try:
            dies.run_next()
            survived = True
        except Killed:
            place.comparer.run_next()
        assert place.adapter.shares == ((1, 80), (2, 20))
        assert place.told().count("adapter.answers") == 1
    assert at > 4


def test_what_was_decided_on_an_old_reading_is_not_saved_over_what_somebody_did() -> None:
    place = Asked()
    read = place.store.get_service(CHAT)
    place.canary()
    adapter = read.value.adapter("support")
    assert adapter is not None
    with pytest.raises(StaleVersion):
        save_adapter(place.store, read, adapter, "promoted", "", actor="bob", now=place.clock())
    assert place.adapter.canary == 2
