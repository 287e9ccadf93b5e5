"""Whether the 95 % intervals that an answer states hold the truth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from benchmarks.answers.truth import Truth
from controlplane.domain.studies.study import Study


class Stated(NamedTuple):
    """One interval of one answer. `what` is `baseline capacity`, `winner capacity` or `gain`."""

    what: str
    holds: bool


def stated(truth: Truth, study: Study) -> tuple[Stated, ...]:
    """Return the intervals of a study's answer, capacities of one replica in requests/s and gains per GPU."""
    found = study.recommendation
    if found is None:
        return ()
    winner = found.evidence.confirmed_winner
    sides = [
        ("baseline capacity", found.evidence.confirmed_baseline, study.baseline),
        ("winner capacity", winner, found.config),
    ]
    told = [
        Stated(what, side.capacity.low_rps <= truth.capacity_rps(config) <= side.capacity.high_rps)
        for what, side, config in sides
        if side is not None
    ]
    if winner is not None and found.chances is not None and (before := truth.capacity_rps(study.baseline)) > 0:
        gained = truth.capacity_rps(found.config) / found.config.gpus_per_replica
        gained /= before / study.baseline.gpus_per_replica
        chances = found.chances
        told.append(Stated("gain", chances.capacity_ratio_low <= gained <= chances.capacity_ratio_high))
    return tuple(told)


def coverage(all_stated: Iterable[Stated]) -> Mapping[str, Mapping[str, float]]:
    """Return per kind how many were stated and what share of them held, percent."""
    groups: dict[str, list[bool]] = defaultdict(list)
    for each in all_stated:
        groups[each.what].append(each.holds)
    return {
        what: {"stated": len(held), "held_percent": round(100 * sum(held) / len(held), 1)}
        for what, held in sorted(groups.items())
    }
