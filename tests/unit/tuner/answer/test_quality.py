"""The quality gate: what counts as the same answers, and who may win without asking."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from controlplane.domain.base import StudyId, TrialId
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import InvalidInput
from controlplane.domain.quality import GreedyAnswer
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.capacity import Capacity
from controlplane.domain.studies.study import Trial, TrialKind, TrialState
from controlplane.domain.studies.tuning_options import QualityOptions
from controlplane.services.answers import prompts_of
from controlplane.services.studies.quality_gate import QualityGate
from tests.fakes.store import FakeStore
from tests.unit.studies.study_world import service_spec
from tuner.answer.quality import compare

OPTIONS = QualityOptions(min_token_agreement=0.75, max_logprob_drift=0.1)
SAME = GreedyAnswer(tokens=(1, 2, 3, 4), prompt_logprobs=(-1.0, -2.0))


class Probe:
    """Answers as it was told to; counts how often it was asked."""

    def __init__(self, answer: GreedyAnswer = SAME, score: float = 0.0) -> None:
        self.answer = answer
        self._score = score
        self.asked = 0

    def answers(self, url: str, model: str, prompts: Sequence[str], *, api_key: str | None) -> tuple[GreedyAnswer, ...]:
        self.asked += 1
        return (self.answer,) * len(prompts)

    def score(self, command: Sequence[str], url: str, model: str) -> float:
        return self._score


def trial(kind: TrialKind = TrialKind.SEARCH, **flags: str) -> Trial:
    return Trial(
        trial_id=TrialId("s-1"),
        study_id=StudyId("s"),
        number=1,
        kind=kind,
        config=EngineConfig(flags=flags),
        state=TrialState.FEASIBLE,
        capacity=Capacity(rps=1, low_rps=1, high_rps=1),
        started_at="2026-01-01T00:00:00Z",
    )


def spec(kind: str = "vllm", **quality: object) -> ServiceSpec:
    return service_spec(engine={"kind": kind, "version": "0.26"}, tuning={"quality": quality})


def gate(probe: Probe | None, which: ServiceSpec, store: FakeStore | None = None) -> QualityGate:
    return QualityGate(store or FakeStore(), StudyId("s"), which, EngineConfig(), probe)


def test_equal_answers_agree_wholly() -> None:
    check = compare([SAME], [SAME], OPTIONS)
    assert check.passed
    assert check.token_agreement == 1
    assert check.logprob_drift == 0


def test_agreement_counts_tokens_up_to_the_first_difference() -> None:
    check = compare([SAME], [SAME.evolve(tokens=(1, 9, 3, 4))], OPTIONS)
    assert not check.passed
    assert check.token_agreement == 0.25


def test_drifting_prompt_log_probabilities_fail_even_with_equal_tokens() -> None:
    check = compare([SAME], [SAME.evolve(prompt_logprobs=(-1.5, -2.0))], OPTIONS)
    assert not check.passed
    assert "drift 0.250 > 0.1" in check.reason


def test_answers_that_agree_and_drift_by_just_what_they_may_pass() -> None:
    options = OPTIONS.evolve(max_logprob_drift=0.25)
    at_both = SAME.evolve(tokens=(1, 2, 3, 9), prompt_logprobs=(-1.5, -2.0))
    check = compare([SAME], [at_both], options)
    assert (check.passed, check.token_agreement, check.logprob_drift) == (True, 0.75, 0.25)


def test_answers_of_different_length_agree_by_the_longer() -> None:
    assert compare([SAME], [SAME.evolve(tokens=(1, 2))], OPTIONS).token_agreement == 0.5


def test_a_different_number_of_answers_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        compare([SAME], [SAME, SAME], OPTIONS)


def test_a_lossy_candidate_is_held_against_the_baselines_answers() -> None:
    store, probe = FakeStore(), Probe()
    gate(probe, spec(), store)(trial(TrialKind.BASELINE), "url")
    assert gate(probe, spec(), store)(trial(quantization="fp8"), "url").state is TrialState.FEASIBLE
    probe.answer = GreedyAnswer(tokens=(9,))
    judged = gate(probe, spec(), store)(trial(quantization="fp8"), "url")
    assert judged.state is TrialState.INFEASIBLE
    assert judged.reason is not None
    assert judged.reason.startswith("answers differ")


def test_a_lossless_candidate_is_not_asked() -> None:
    probe = Probe()
    assert gate(probe, spec())(trial(), "url").quality is None
    assert probe.asked == 0


def test_without_the_baselines_answers_no_lossy_candidate_may_win() -> None:
    assert gate(Probe(), spec())(trial(quantization="fp8"), "url").state is TrialState.INFEASIBLE


def test_the_gate_is_off_only_explicitly_and_says_so() -> None:
    judged = gate(None, spec(enabled=False))(trial(quantization="fp8"), "url")
    assert judged.quality is not None
    assert "switched off" in judged.quality.reason
    assert gate(None, spec())(trial(quantization="fp8"), "url").state is TrialState.INFEASIBLE


def test_emulated_engines_are_not_asked_and_say_so() -> None:
    judged = gate(None, spec("emulator"))(trial(quantization="fp8"), "url")
    assert judged.quality is not None
    assert judged.quality.passed
    assert "emulated" in judged.quality.reason


@pytest.mark.parametrize(("score", "state"), [(0.9, TrialState.FEASIBLE), (0.5, TrialState.INFEASIBLE)])
def test_the_users_command_decides_where_there_is_one(score: float, state: TrialState) -> None:
    chosen = spec(command=["score", "{url}"], min_score=0.8)
    assert gate(Probe(score=score), chosen)(trial(quantization="fp8"), "url").state is state


def test_an_unreadable_prompt_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot read the quality prompts"):
        prompts_of(spec(prompts=str(tmp_path / "none")))


def test_a_command_without_a_least_score_is_refused() -> None:
    with pytest.raises(ValueError, match="belong together"):
        QualityOptions(command=("x",))
