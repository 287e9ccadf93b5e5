"""How many GPUs are too few for a configuration, because a fleet of one as good in the search missed together. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.studies.study import Trial, TrialKind, TrialState
from tuner.answer.evidence import Measured, measured

UNDER_THE_SAME = (TrialKind.BASELINE, TrialKind.SEARCH)  # arrivals
_ALIKE = 1.1  # up to so much more per GPU is within what levels of minutes tell apart


class Missed(NamedTuple):
    """A fleet that missed the target together, and what each of its GPUs was believed to carry by the search alone."""

    gpus: int
    rps_per_gpu: float


def too_few_gpus(trials: Sequence[Trial], config: EngineConfig) -> int:
    """Return how many GPUs are too few for a configuration, as fleets of ones as good missed together; 0 for none."""
    before = measured([trial for trial in trials if trial.kind in UNDER_THE_SAME])
    mine = before.get(config.content_hash())
    return 0 if mine is None else more_than(mine, before, missed_checks(trials, before))


def missed_checks(trials: Sequence[Trial], before: Mapping[str, Measured]) -> list[Missed]:
    """Return every fleet that missed; `before` is what was measured under the search's arrivals, by configuration."""
    checks = [t for t in trials if t.kind is TrialKind.CONFIRM_FLEET and t.state is TrialState.INFEASIBLE]
    found = ((check, before.get(check.config.content_hash())) for check in checks)
    return [
        Missed(check.replicas * check.config.gpus_per_replica, _rps_per_gpu(was))
        for check, was in found
        if was is not None
    ]


def more_than(candidate: Measured, before: Mapping[str, Measured], missed: Sequence[Missed]) -> int:
    """Return how many GPUs are too few for a candidate, as those of one as good in the search missed together.

    What a check brings that levels of minutes did not (the traffic's worst stretches, a gateway's share) meets all
    configurations alike, and the search's arrivals were the same for all.
    """
    mine = before.get(candidate.config.content_hash())
    alike = [each for each in missed if mine is not None and _rps_per_gpu(mine) <= _ALIKE * each.rps_per_gpu]
    return max((each.gpus for each in alike), default=0)


def _rps_per_gpu(found: Measured) -> float:
    return found.belief.median_rps / found.config.gpus_per_replica
