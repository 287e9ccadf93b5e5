"""The quality gate of a study: the baseline's answers are kept, every lossy candidate's are held against them."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.domain.base import StudyId
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.quality import GreedyAnswer, QualityCheck
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import Trial, TrialKind, TrialState
from controlplane.ports.load import QualityProbe
from controlplane.ports.store import Store
from controlplane.services.answers import answers_of, can_answer, score_of, without_asking
from tuner.answer.quality import ANSWERS, compare, unchecked
from tuner.space.first_tier import is_lossy


@dataclass(frozen=True)
class QualityGate:
    """`probe` None: no engine can be asked, lossy configurations are refused unless the gate is off."""

    store: Store
    study_id: StudyId
    spec: ServiceSpec
    baseline: EngineConfig
    probe: QualityProbe | None

    def __call__(self, trial: Trial, url: str) -> Trial:
        """Return the trial with its quality; infeasible when a lossy configuration answers too differently.

        Raises Unavailable when the engine or the command does not answer.
        """
        if trial.kind is TrialKind.BASELINE and self._asks():
            self._keep(self._answers(url))
        if trial.state is not TrialState.FEASIBLE or not is_lossy(trial.config, self.baseline):
            return trial
        check = self._check(url)
        if check.passed:
            return trial.evolve(quality=check)
        return trial.evolve(quality=check, state=TrialState.INFEASIBLE, reason=f"answers differ: {check.reason}")

    def _asks(self) -> bool:
        options = self.spec.tuning.quality
        return options.enabled and options.command is None and can_answer(self.spec)

    def _check(self, url: str) -> QualityCheck:
        known = without_asking(self.spec)
        if known is not None:
            return known
        if self.probe is None:
            return unchecked("nothing here can ask the engine", passed=False)
        score = score_of(self.probe, self.spec, url)
        if score is not None:
            return score
        if not can_answer(self.spec):
            title = self.spec.engine.driver.title
            return unchecked(f"{title} tells no log probabilities; tuning.quality.command can compare", passed=False)
        reference = self.store.read_setting(self._setting)
        if reference is None:
            return unchecked("the baseline gave no answers to compare with", passed=False)
        return compare(ANSWERS.validate_json(reference.value), self._answers(url), self.spec.tuning.quality)

    def _answers(self, url: str) -> tuple[GreedyAnswer, ...]:
        return () if self.probe is None else answers_of(self.probe, self.spec, url)

    def _keep(self, answers: tuple[GreedyAnswer, ...]) -> None:
        if answers:
            present = self.store.read_setting(self._setting)
            version = 0 if present is None else present.version
            self.store.write_setting(self._setting, ANSWERS.dump_json(answers).decode(), version)

    @property
    def _setting(self) -> str:
        return f"quality/{self.study_id}"
