"""What is kept of the looks at a rollout, and what two revisions are said to have different."""

from __future__ import annotations

from datetime import timedelta

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.revision_changes import revision_changes
from controlplane.domain.rollouts.analysis import Analysis, Comparison, Counts, Verdict
from controlplane.domain.rollouts.looks import MOST_LOOKS, Look, Looks, is_news, look_at, with_look
from controlplane.domain.rollouts.rollout import Rollout, RolloutState, StepRecord
from tests.builders_serving import NOW, a_revision, a_rollout, a_spec


def under_way(step: int = 0) -> Rollout:
    begun = tuple(StepRecord(index=n, weight_percent=5, started_at=NOW) for n in range(step + 1))
    return a_rollout(state=RolloutState.PROGRESSING, step_index=step, steps=begun)


def told(seconds: float, verdict: Verdict = Verdict.INCONCLUSIVE) -> Analysis:
    counts = Counts(requests=100, slo_misses=1, errors=0)
    compared = Comparison(
        name="slo_miss_ratio", canary_ratio=0, stable_ratio=0, difference=0, low=-0.1, high=1 / seconds, margin=0.05
    )
    return Analysis(
        verdict=verdict,
        reason="",
        at=NOW + timedelta(seconds=seconds),
        canary=counts.evolve(asked=5),
        stable=counts.evolve(asked=95),
        comparisons=(compared,),
    )


def seen(seconds: float, *, weights: tuple[int | None, ...] = (5, 5), verdict: Verdict = Verdict.INCONCLUSIVE) -> Look:
    return look_at(under_way(), told(seconds, verdict), weights, now=NOW + timedelta(seconds=seconds))


def test_a_look_has_the_shares_and_the_intervals_of_its_moment() -> None:
    look = seen(10, weights=(5, None))
    assert (look.step, look.weights, look.arrived_share) == (0, (5, None), 0.05)
    assert [(each.low, each.high, each.margin) for each in look.intervals] == [(-0.1, 0.1, 0.05)]


def test_a_changed_share_or_verdict_is_news_and_a_moment_later_is_none() -> None:
    known = Looks(looks=(seen(400),))
    assert not is_news(known, seen(401), began=NOW)
    assert is_news(known, seen(411), began=NOW)
    assert is_news(known, seen(401, weights=(5, 0)), began=NOW)
    assert is_news(known, seen(401, verdict=Verdict.FAIL), began=NOW)
    assert is_news(Looks(), seen(1), began=NOW)


def test_of_a_step_that_lasts_few_looks_are_kept_from_its_first_to_its_latest() -> None:
    known = Looks()
    for half_seconds in range(1, 2 * 3600):
        look = seen(half_seconds / 2)
        if is_news(known, look, began=NOW):
            known = with_look(known, look)
    at_s = [(look.at - NOW).total_seconds() for look in known.looks]
    assert 10 < len(at_s) <= MOST_LOOKS
    assert at_s[0] == 0.5
    assert at_s[-1] > 3400
    assert at_s == sorted(set(at_s))


def test_a_long_step_takes_no_look_from_another_one() -> None:
    first = look_at(under_way(), told(5), (5,), now=NOW)
    known = Looks(looks=(first,))
    for second in range(1, 200):
        known = with_look(known, look_at(under_way(1), told(second), (5,), now=NOW + timedelta(seconds=second)))
    assert known.looks[0] == first
    assert len(known.looks) <= MOST_LOOKS + 2


def test_model_and_engine_are_said_beside_the_flags() -> None:
    spec = a_spec()
    engine = spec.engine.evolve(version="0.26", env={"NCCL_DEBUG": "INFO", "TOKEN": "one"})
    stable = a_revision(EngineConfig(flags={"max-num-seqs": 64}), spec.evolve(engine=engine))
    other = engine.evolve(version="0.27", start_timeout_s=60, env={"TOKEN": "two", "HF_HOME": "/models"})
    changed = spec.evolve(engine=other, model=spec.model.evolve(path="llama-70b"))
    found = revision_changes(stable, a_revision(EngineConfig(flags={"max-num-seqs": 128}), changed))
    assert found == (
        "max-num-seqs: 64 → 128",
        "model.path: llama-8b → llama-70b",
        "engine.env HF_HOME: set",
        "engine.env NCCL_DEBUG: no longer set",
        "engine.env TOKEN: another value",
        "engine.start_timeout_s: 900.0 → 60.0",
        "engine.version: 0.26 → 0.27",
    )
    assert revision_changes(stable, stable) == ()


def test_secrets_are_named_and_never_shown() -> None:
    config = EngineConfig(flags={"api-key": "planted-before"})
    found = revision_changes(a_revision(config), a_revision(config.with_flags({"api-key": "planted-after"})))
    assert found == ("api-key: (hidden) → (hidden)",)
