"""The quality gate of a study: the baseline's answers are kept, every lossy candidate's are held against them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from controlplane.domain.base import StudyId
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.errors import InvalidInput, unreadable
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.greedy_answer import GreedyAnswer
from controlplane.domain.studies.study import QualityCheck, Trial, TrialKind, TrialState
from controlplane.ports.load import QualityProbe
from controlplane.ports.store import Store
from tuner.answer.quality import ANSWERS, PROMPTS, compare, scored, unchecked
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
        return options.enabled and options.command is None and self.spec.engine.driver.dialect.prompt_logprobs

    def _check(self, url: str) -> QualityCheck:
        options = self.spec.tuning.quality
        if not options.enabled:
            return unchecked("not checked: switched off in service.yaml", passed=True)
        if self.spec.engine.kind is EngineKind.EMULATOR:
            return unchecked("not checked: an emulated engine has no real answers", passed=True)
        if self.probe is None:
            return unchecked("nothing here can ask the engine", passed=False)
        if options.command is not None:
            return scored(self.probe.score(options.command, url, self.spec.model.name), options)
        reference = self.store.read_setting(self._setting)
        if reference is None:
            return unchecked("the baseline gave no answers to compare with", passed=False)
        return compare(ANSWERS.validate_json(reference.value), self._answers(url), options)

    def _answers(self, url: str) -> tuple[GreedyAnswer, ...]:
        if self.probe is None:
            return ()
        key = self.spec.engine.api_key
        return self.probe.answers(url, self.spec.model.name, prompts_of(self.spec), api_key=key)

    def _keep(self, answers: tuple[GreedyAnswer, ...]) -> None:
        if answers:
            present = self.store.read_setting(self._setting)
            version = 0 if present is None else present.version
            self.store.write_setting(self._setting, ANSWERS.dump_json(answers).decode(), version)

    @property
    def _setting(self) -> str:
        return f"quality/{self.study_id}"


def prompts_of(spec: ServiceSpec) -> tuple[str, ...]:
    """Return the prompts to compare on. Raises InvalidInput when the user's file cannot be read or is empty."""
    path = spec.tuning.quality.prompts
    if path is None:
        return PROMPTS
    try:
        found = tuple(line for line in Path(path).read_text().splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read the quality prompts {path}", why=unreadable(error)) from error
    if not found:
        raise InvalidInput(f"the quality prompts {path} are empty", allowed="one prompt a line")
    return found
