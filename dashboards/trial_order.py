"""Which trials of a long study are shown, and in which order. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from controlplane.domain.studies.study import Trial


class TrialOrder(StrEnum):
    """By what the trials are sorted; those without such a number come last."""

    TRIED = "as tried"
    CAPACITY = "highest capacity"
    COST = "lowest cost"


def arranged(trials: Sequence[Trial], order: TrialOrder, text: str) -> list[Trial]:
    """Return the trials that hold every word of `text` (flags, kind, state, reason; whatever its case), sorted."""
    wanted = text.casefold().split()
    found = [trial for trial in trials if all(word in _said(trial) for word in wanted)]
    return sorted(found, key=lambda trial: (*_rank(trial, order), trial.number))


def _said(trial: Trial) -> str:
    number, flags = f"#{trial.number}", " ".join(trial.config.to_args())
    return f"{number} {trial.kind} {trial.state} {flags} {trial.reason or ''}".casefold()


def _rank(trial: Trial, order: TrialOrder) -> tuple[float, float]:
    match order:
        case TrialOrder.TRIED:
            return (0, 0)
        case TrialOrder.CAPACITY:
            return (1, 0) if trial.capacity is None else (0, -trial.capacity.rps)
        case TrialOrder.COST:
            return (1, 0) if trial.fleet is None else (0, trial.fleet.usd_per_hour)
