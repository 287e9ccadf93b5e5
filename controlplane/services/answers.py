"""Let engines answer the fixed prompt set: what studies and rollouts hold a changed model's answers to."""

from __future__ import annotations

from pathlib import Path

from controlplane.domain.engines.engine import EngineKind
from controlplane.domain.errors import InvalidInput, unreadable
from controlplane.domain.quality import GreedyAnswer, QualityCheck
from controlplane.domain.service import ServiceSpec
from controlplane.ports.load import QualityProbe
from controlplane.reading.text_file import read_text
from tuner.answer.quality import PROMPTS, scored, unchecked


def without_asking(spec: ServiceSpec) -> QualityCheck | None:
    """Return the verdict of a service whose engines are not asked at all; None where they are."""
    if not spec.tuning.quality.enabled:
        return unchecked("not checked: switched off in service.yaml", passed=True)
    if spec.engine.kind is EngineKind.EMULATOR:
        return unchecked("not checked: an emulated engine has no real answers", passed=True)
    return None


def can_answer(spec: ServiceSpec) -> bool:
    """Say whether these engines give what is compared: greedy answers and log probabilities of the prompt."""
    return spec.engine.driver.dialect.prompt_logprobs


def answers_of(probe: QualityProbe, spec: ServiceSpec, url: str) -> tuple[GreedyAnswer, ...]:
    """Return one engine's answers. Raises Unavailable when it gives none, InvalidInput as `prompts_of`."""
    return probe.answers(url, spec.model.name, prompts_of(spec), api_key=spec.engine.api_key)


def score_of(probe: QualityProbe, spec: ServiceSpec, url: str) -> QualityCheck | None:
    """Return the verdict of the user's own command on an engine; None where there is no command.

    Raises Unavailable when it fails, InvalidInput when it prints no number.
    """
    options = spec.tuning.quality
    if options.command is None:
        return None
    return scored(probe.score(options.command, url, spec.model.name), options)


def prompts_of(spec: ServiceSpec) -> tuple[str, ...]:
    """Return the prompts to compare on. Raises InvalidInput when the user's file cannot be read or is empty."""
    path = spec.tuning.quality.prompts
    if path is None:
        return PROMPTS
    try:
        found = tuple(line for line in read_text(Path(path)).splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read the quality prompts {path}", why=unreadable(error)) from error
    if not found:
        raise InvalidInput(f"the quality prompts {path} are empty", allowed="one prompt a line")
    return found
