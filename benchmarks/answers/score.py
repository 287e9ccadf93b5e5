"""What an answer was worth, by the truth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from benchmarks.answers.intervals import Stated
from benchmarks.answers.truth import Fleet, Truth
from controlplane.domain.studies.answer import Answer
from controlplane.domain.studies.study import Recommendation, Study
from controlplane.services.studies.conclude import NOTHING_AFFORDABLE, NOTHING_MEETS

_SURE = 0.95  # the probability that a fleet is named for, unless a service declares another
WORTHWHILE = 0.2  # a fleet cheaper by this share must not be missed


class Verdict(StrEnum):
    """The four answers that are told apart, and that there was none: the experiment broke."""

    IMPROVEMENT = "improvement"
    UNCHECKED = "unchecked"
    NO_IMPROVEMENT = "no_improvement"
    OUT_OF_REACH = "out_of_reach"
    FAILED = "failed"


_NAMED = {
    "improvement": Verdict.IMPROVEMENT,
    "improvement_unchecked": Verdict.UNCHECKED,
    "same_fleet_more_capacity": Verdict.NO_IMPROVEMENT,  # of capacity: nothing is cheaper
    "no_improvement": Verdict.NO_IMPROVEMENT,
    "out_of_reach": Verdict.OUT_OF_REACH,
}


_WITHOUT_A_FLEET = (Verdict.OUT_OF_REACH, Verdict.FAILED)


class Score(NamedTuple):
    """One study. `regret` is a share of the true best's price; None where no fleet has the headroom, so that there is
    no best one to hold a price against, and none that misses was recommended. `unmatched` is True of a recommended
    fleet that truly holds the target there, without the headroom. `holds_chance` is what is stated of a recommended
    fleet: the probability that it holds the target.
    """

    verdict: Verdict
    regret: float | None
    missed_win: bool
    false_win: bool
    recommended: bool
    slo_missed: bool
    gpu_seconds: float
    stated: tuple[Stated, ...] = ()
    unmatched: bool = False
    holds_chance: float | None = None


def verdict_of(study: Study) -> Verdict:
    """Return which of the four answers a study ended with, or that it failed.

    Answers are named by the recommendation's `answer` where it has one. Before it had, an improvement whose fleet was
    not checked was unchecked. One that ended without any recommendation failed, unless it measured that nothing meets
    the limits or the ceiling.
    """
    found = study.recommendation
    if found is None:
        measured = (study.reason or "").startswith((NOTHING_MEETS, NOTHING_AFFORDABLE))
        return Verdict.OUT_OF_REACH if measured else Verdict.FAILED
    named = getattr(found, "answer", None)
    if named is not None:
        return _NAMED[str(getattr(named, "kind", named))]
    if not found.improvement:
        return Verdict.NO_IMPROVEMENT
    check = found.evidence.fleet_check
    return Verdict.UNCHECKED if check is not None and check.held is None else Verdict.IMPROVEMENT


def score(truth: Truth, study: Study) -> Score:
    """Judge one study by the truth.

    A fleet costs what it truly needs: as recommended when so many replicas hold the target, else as many as do by
    their true capacity. A win is missed when a fleet cheaper than the baseline's true one by a fifth exists and none
    was recommended; it is false when what was recommended is truly no cheaper, or cannot be had. Another configuration
    in a fleet of the baseline's believed size was recommended too: no win is missed where that truly is as much
    cheaper, because the baseline needs more than was believed. A study that failed misses every win that exists.
    """
    verdict, found, best, before = verdict_of(study), study.recommendation, truth.best(), truth.baseline()
    claims = verdict in (Verdict.IMPROVEMENT, Verdict.UNCHECKED)
    recommended = found is not None and verdict not in _WITHOUT_A_FLEET
    holds = found is not None and recommended and truth.holds(found.config, found.fleet.replicas)
    spent = _true_cost(truth, found, holds=holds) if found is not None and recommended else math.inf
    was = before.size.usd_per_hour if before is not None and before.fits else math.inf
    won = claims or _wins_as_large_a_fleet(found, spent, was)
    return Score(
        verdict=verdict,
        regret=_regret(spent, best, misses=recommended and not holds),
        missed_win=best is not None and best.size.usd_per_hour <= (1 - WORTHWHILE) * was and not won,
        false_win=claims and spent >= was and not (math.isinf(was) and math.isfinite(spent)),
        recommended=recommended,
        slo_missed=recommended and not holds,
        gpu_seconds=study.gpu_seconds,
        unmatched=best is None and holds,
        holds_chance=_stated_chance(found) if recommended else None,
    )


def _stated_chance(found: Recommendation | None) -> float | None:
    chances = getattr(found, "chances", None)
    return None if chances is None else float(chances.holds)


def _wins_as_large_a_fleet(found: Recommendation | None, spent: float, was: float) -> bool:
    """Say whether another configuration, taken for one of the baseline's size, truly is the fleet to find."""
    rolled_out = getattr(found, "answer", None) == Answer.SAME_FLEET_MORE_CAPACITY
    return rolled_out and math.isfinite(spent) and spent <= (1 - WORTHWHILE) * was


def _true_cost(truth: Truth, found: Recommendation, *, holds: bool) -> float:
    if holds:
        return found.fleet.usd_per_hour
    needed = truth.fleet(found.config)
    if needed is None or not needed.fits:
        return math.inf
    return max(found.fleet.usd_per_hour, needed.size.usd_per_hour)


def _regret(spent: float, best: Fleet | None, *, misses: bool) -> float | None:
    if best is None:
        return math.inf if misses else None
    return max(0.0, spent / best.size.usd_per_hour - 1)


def row(name: str, budget: int, truth: Truth, scores: Sequence[Score]) -> dict[str, Any]:
    """Return one scenario at one budget as the report has it."""
    best, before = truth.best(), truth.baseline()
    return {
        "name": name,
        "budget": budget,
        "true_best_usd_per_hour": None if best is None else best.size.usd_per_hour,
        "baseline_usd_per_hour": None if before is None else before.size.usd_per_hour,
        "answers": {verdict.value: sum(s.verdict is verdict for s in scores) for verdict in Verdict},
        "regret_percent": regret_percent(scores),
        "missed_wins": sum(s.missed_win for s in scores),
        "false_wins": sum(s.false_win for s in scores),
        "slo_missed_at_target": sum(s.slo_missed for s in scores),
        "held_without_headroom": sum(s.unmatched for s in scores),
        "gpu_seconds": {"median": round(_quantile([s.gpu_seconds for s in scores], 0.5))},
    }


def regret_percent(scores: Iterable[Score]) -> dict[str, float | None]:
    """Return median and P90 of those that have one; None is infinite: an answer without a fleet where there is one, or
    a fleet that misses where there is none.
    """
    regrets = [s.regret for s in scores if s.regret is not None]
    return {"median": _percent(_quantile(regrets, 0.5)), "p90": _percent(_quantile(regrets, 0.9))}


def probabilities(scores: Iterable[Score]) -> dict[str, dict[str, float]]:
    """Return of recommended fleets, those sure to hold (95 % or more) and the others: how many there are, how likely
    they hold by what their answers state (mean), and what share of them truly holds, percent.
    """
    groups: dict[str, list[tuple[float, bool]]] = {}
    for each in scores:
        if (chance := each.holds_chance) is not None:
            groups.setdefault("sure" if chance >= _SURE else "unsure", []).append((chance, not each.slo_missed))
    return {
        name: {
            "stated": len(told),
            "stated_percent": round(100 * sum(chance for chance, _ in told) / len(told), 1),
            "held_percent": round(100 * sum(held for _, held in told) / len(told), 1),
        }
        for name, told in sorted(groups.items())
    }


def _percent(share: float) -> float | None:
    return round(100 * share, 1) if math.isfinite(share) else None


def _quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of the values do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
