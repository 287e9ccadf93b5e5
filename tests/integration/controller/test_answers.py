"""A canary that answers otherwise than stable reaches no user, whoever started its rollout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from controlplane.cli.tables.rollout_html import rollout_page
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.errors import Unavailable
from controlplane.domain.quality import GreedyAnswer
from controlplane.domain.revision import Revision
from controlplane.domain.rollouts.answers import AnswerRisk
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.rollouts.rollout_options import CeilingPolicy
from controlplane.domain.service import EngineOptions, ModelSpec, ServiceSpec
from controlplane.services.rollouts.answers import AnswerComparer, risk_of
from controlplane.services.rollouts.by_hand import start_by_hand
from controlplane.services.rollouts.manage import resume_rollout, start
from controlplane.services.rollouts.report import rollout_report
from tests.builders_serving import CHAT, a_revision, a_spec, some_options
from tests.integration.controller.site import Site

S = RolloutState
REAL = EngineOptions(kind=EngineKind.VLLM, version="0.26")
SAME = GreedyAnswer(tokens=(1, 2, 3, 4), prompt_logprobs=(-1.0, -2.0))
OTHER = GreedyAnswer(tokens=(1, 9, 9, 9), prompt_logprobs=(-1.0, -2.0))


class Probe:
    """Answers by engine; `silent` ones do not."""

    def __init__(self) -> None:
        self.by_url: dict[str, GreedyAnswer] = {}
        self.silent = False

    def answers(self, url: str, model: str, prompts: Sequence[str], *, api_key: str | None) -> tuple[GreedyAnswer, ...]:
        if self.silent:
            raise Unavailable("the engine gave no answer to compare")
        return (self.by_url.get(url, SAME),) * len(prompts)

    def score(self, command: Sequence[str], url: str, model: str) -> float:
        return 0.5


class Asked:
    """A site of real engines whose quantized canary is ready and waits for its answers to be compared."""

    def __init__(self, *, spec: ServiceSpec | None = None, revision: Revision | None = None) -> None:
        self.site, self.probe = Site(), Probe()
        self.site.serving(engine=REAL, **({} if spec is None else {"rollout": spec.rollout, "tuning": spec.tuning}))
        self.comparer = AnswerComparer(store=self.site.store, fleet=self.site.fleet, probe=self.probe)
        now = self.site.clock()
        if revision is None:
            start_by_hand(self.site.store, service=CHAT, changes={"quantization": "fp8"}, actor="a person", now=now)
        else:
            start(self.site.store, self.site.service, revision, replicas=1, actor="a person", now=now)
        self.site.passes(3, requests=50)

    def compare(self, canary: GreedyAnswer) -> None:
        self.probe.by_url = {str(e.url): canary for e in self.site.engines(self.site.rollout.canary)}
        self.comparer.run_next()
        self.site.passes(1)

    @property
    def served_by_canary(self) -> int:
        return sum(record.revision == self.site.rollout.canary for record in self.site.records.records)


def test_no_user_is_sent_to_a_quantized_canary_before_its_answers_were_compared() -> None:
    asked = Asked()
    assert (asked.site.rollout.state, asked.served_by_canary) == (S.PENDING, 0)
    assert "compares the canary's answers" in asked.site.rollout.reason
    asked.compare(SAME)
    assert asked.site.rollout.state is S.PROGRESSING
    assert asked.site.rollout.answers is not None
    assert asked.site.rollout.answers.token_agreement == 1


def test_other_answers_end_it_before_any_user_saw_it_and_stand_in_its_report() -> None:
    asked = Asked()
    asked.compare(OTHER)
    asked.site.passes(3, requests=50)
    assert (asked.site.rollout.state, asked.served_by_canary) == (S.ABORTED, 0)
    report = rollout_report(asked.site.store, asked.site.rollout.rollout_id)
    assert "token agreement 0.25 < 0.8" in report.rollout.reason
    assert "rollout.answers" in [event.action for event in report.events]
    assert "answers otherwise than stable: token agreement 0.25 &lt; 0.8" in rollout_page(report, asked.site.clock())


def test_other_weights_may_answer_otherwise_if_a_person_says_so() -> None:
    moved = a_spec(engine=REAL, model=ModelSpec(name="llama-8b", path="llama-8b-v2"))
    asked = Asked(revision=a_revision(spec=moved))
    asked.compare(OTHER)
    assert (asked.site.rollout.state, asked.served_by_canary) == (S.PAUSED, 0)
    resume_rollout(asked.site.store, asked.site.rollout.rollout_id, actor="a person", now=asked.site.clock())
    asked.site.passes(2, requests=50)
    assert asked.site.rollout.state is S.PROGRESSING
    assert asked.site.rollout.answers_accepted


def test_what_is_declared_decides() -> None:
    asked = Asked(spec=a_spec(rollout=some_options(on_other_answers=CeilingPolicy.PROCEED)))
    asked.compare(OTHER)
    assert asked.site.rollout.state is S.PROGRESSING
    assert asked.site.rollout.answers is not None
    assert not asked.site.rollout.answers.passed


def test_an_engine_that_never_answers_leaves_the_decision_to_a_person() -> None:
    asked = Asked()
    asked.probe.silent = True
    for _ in range(3):
        assert asked.site.rollout.state is S.PENDING
        asked.compare(SAME)
    assert asked.site.rollout.state is S.PAUSED
    assert "not compared, tried 3 times" in asked.site.rollout.reason


def test_emulated_engines_are_not_asked_and_the_rollout_says_so() -> None:
    site = Site()
    site.serving()
    site.roll_out(EngineConfig(flags={"quantization": "fp8"}))
    site.passes_until(S.PROGRESSING)
    assert site.rollout.answers is not None
    assert "emulated engine" in site.rollout.answers.reason


@pytest.mark.parametrize(
    ("stable", "canary", "risk"),
    [
        ({}, {"max-num-seqs": 8}, None),
        ({}, {"quantization": "fp8"}, AnswerRisk.PRECISION),
        ({}, {"kv-cache-dtype": "fp8"}, AnswerRisk.PRECISION),
        ({"quantization": "fp8"}, {}, None),
        ({"quantization": "fp8"}, {"quantization": "fp8", "max-num-seqs": 8}, None),
        ({}, {"dtype": "float16"}, AnswerRisk.WEIGHTS),
        ({}, {"load-format": "dummy"}, AnswerRisk.WEIGHTS),
    ],
)
def test_only_what_answers_depend_on_is_a_risk(
    stable: dict[str, Any], canary: dict[str, Any], risk: AnswerRisk | None
) -> None:
    """Back to full precision is what the reference was all along."""
    mine, others = (a_revision(EngineConfig(flags=flags)) for flags in (canary, stable))
    assert risk_of(mine, others) is risk
