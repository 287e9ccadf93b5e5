"""Before any user: does the canary still answer as stable does, and what follows if it does not? Pure."""

from __future__ import annotations

from enum import StrEnum

from controlplane.domain.quality import QualityCheck
from controlplane.domain.rollouts.rollout_options import CeilingPolicy, RolloutOptions


class AnswerRisk(StrEnum):
    """Why a canary may answer otherwise than stable."""

    PRECISION = "precision"  # quantized weights or a quantized KV cache: meant to answer the same
    WEIGHTS = "weights"  # another model: may well be meant to answer otherwise


def follows(check: QualityCheck, risk: AnswerRisk, options: RolloutOptions) -> CeilingPolicy:
    """Return what a comparison means for the rollout. Where nothing is declared, only what is certain aborts.

    Quantization that changes answers beyond the limits is damage. Other weights may be meant to, and answers that could
    not be compared say nothing: a person decides, before any user is asked to.
    """
    if check.passed:
        return CeilingPolicy.PROCEED
    if options.on_other_answers is not None:
        return options.on_other_answers
    damaged = check.compared and risk is AnswerRisk.PRECISION
    return CeilingPolicy.ABORT if damaged else CeilingPolicy.PAUSE


def describe_answers(check: QualityCheck) -> str:
    """Return the comparison in a sentence."""
    if not check.compared:
        return check.reason
    return f"the canary answers {'as stable does' if check.passed else 'otherwise than stable'}: {check.reason}"
