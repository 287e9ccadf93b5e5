"""Does a lossy configuration still answer like the baseline? Pure: answers in, verdict out.

Two measures. *Token agreement*: greedy answers are compared token by token up to the first difference (after it the two
texts have different histories and say nothing more). *Log-probability drift*: the log probabilities both engines give
to the very same prompt tokens; no sampling is involved, so it sees small damage that greedy answers hide.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import TypeAdapter

from controlplane.domain.quality import GreedyAnswer, QualityCheck
from controlplane.domain.studies.tuning_options import QualityOptions

ANSWERS = TypeAdapter(tuple[GreedyAnswer, ...])

PROMPTS = (
    "The capital of France is",
    "Explain in two sentences why the sky is blue.",
    "def fibonacci(n):\n    ",
    "Translate to German: The meeting was moved to Thursday afternoon.",
    "List the first ten prime numbers:",
    "A train travels 120 km in 1.5 hours. Its average speed is",
    "SELECT name, total FROM orders WHERE",
    "Summarise: Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.",
    "The opposite of 'reluctant' is",
    "Once upon a time, in a village by the sea,",
    "Water boils at 100 degrees Celsius at sea level. On a high mountain it boils at",
    '{"name": "Ada", "born": 1815, "field":',
)
"""The shipped prompt set: facts, arithmetic, code, structure, translation, free text. Written for this project."""


def compare(
    reference: Sequence[GreedyAnswer], candidate: Sequence[GreedyAnswer], options: QualityOptions
) -> QualityCheck:
    """Return the verdict on a candidate's answers to the same prompts in the same order.

    Raises ValueError when the two do not have as many answers.
    """
    if len(reference) != len(candidate) or not reference:
        raise ValueError(f"{len(candidate)} answers cannot be compared with {len(reference)}")
    pairs = list(zip(reference, candidate, strict=True))
    agreement = sum(_agreement(a.tokens, b.tokens) for a, b in pairs) / len(pairs)
    drift = _drift(pairs)
    problems = []
    if agreement < options.min_token_agreement:
        problems.append(f"token agreement {agreement:.2f} < {options.min_token_agreement:g}")
    if drift is not None and drift > options.max_logprob_drift:
        problems.append(f"log-probability drift {drift:.3f} > {options.max_logprob_drift:g}")
    return QualityCheck(
        passed=not problems,
        reason="; ".join(problems) or _within(agreement, drift, options),
        prompts=len(pairs),
        token_agreement=agreement,
        logprob_drift=drift,
    )


def scored(score: float, options: QualityOptions) -> QualityCheck:
    """Return the verdict on the score of the user's command."""
    least = options.min_score if options.min_score is not None else 0.0
    sign = "≥" if score >= least else "<"
    return QualityCheck(passed=score >= least, reason=f"score {score:g} {sign} {least:g}", score=score)


def unchecked(reason: str, *, passed: bool) -> QualityCheck:
    """Return the verdict where nothing was compared."""
    return QualityCheck(passed=passed, reason=reason)


def _agreement(reference: Sequence[int], candidate: Sequence[int]) -> float:
    length = max(len(reference), len(candidate))
    if length == 0:
        return 1.0
    same = 0
    for left, right in zip(reference, candidate, strict=False):
        if left != right:
            break
        same += 1
    return same / length


def _drift(pairs: Sequence[tuple[GreedyAnswer, GreedyAnswer]]) -> float | None:
    gaps = [
        abs(a - b)
        for left, right in pairs
        if len(left.prompt_logprobs) == len(right.prompt_logprobs)
        for a, b in zip(left.prompt_logprobs, right.prompt_logprobs, strict=True)
    ]
    return sum(gaps) / len(gaps) if gaps else None


def _within(agreement: float, drift: float | None, options: QualityOptions) -> str:
    text = f"token agreement {agreement:.2f} ≥ {options.min_token_agreement:g}"
    if drift is None:
        return f"{text}; the engine gave no prompt log probabilities"
    return f"{text}, log-probability drift {drift:.3f} ≤ {options.max_logprob_drift:g}"
