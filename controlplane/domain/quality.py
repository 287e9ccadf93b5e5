"""What an engine answers when it may not choose, and what came of holding two engines' answers against each other."""

from __future__ import annotations

from pydantic import Field

from controlplane.domain.base import Value


class GreedyAnswer(Value):
    """One prompt's answer: token names as numbers (never text), and log probabilities of the prompt's tokens, nats."""

    tokens: tuple[int, ...]
    prompt_logprobs: tuple[float, ...] = ()


class QualityCheck(Value):
    """A configuration's answers beside those of the one it is to replace. Numbers only, never text."""

    passed: bool
    reason: str = Field(description="What was compared with which limits, or why nothing could be.")
    prompts: int = 0
    token_agreement: float | None = None
    logprob_drift: float | None = None
    score: float | None = None

    @property
    def compared(self) -> bool:
        """Say whether answers were looked at at all: what was not compared is no finding against anybody."""
        return self.prompts > 0 or self.score is not None
