"""A fleet that held: would one replica fewer do as well? The check goes on in the same engines. Pure.

What was believed of one replica before the check leaves a replica too many, as `confidence` has to be bought with it.
So one engine is left out and the others carry the target with its headroom: that is what decides how many are
recommended. It takes minutes and no engine start. Only where it may do, and nothing refuted it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum

from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import Level, Trial
from controlplane.domain.studies.tuning_options import ObjectiveKind
from tuner.answer.after_check import levels_of, met_together
from tuner.answer.evidence import Measured, measured
from tuner.answer.fleets import enough, headroom_rps, sized
from tuner.answer.named import LIKELY
from tuner.answer.standing import UNLIKELY
from tuner.answer.too_few import too_few_gpus

_TWICE = 2  # levels without one replica that are given to it


class Fewer(StrEnum):
    AGAIN = "again"
    HELD = "held"
    STOP = "stop"  # it is not shown that so many would do


def next_without(spec: ServiceSpec, trials: Sequence[Trial], check: Trial) -> Fewer:
    """Return how a check goes on that loads one replica fewer than held."""
    here = levels_of(check, check.loaded_replicas)
    if not here:
        return Fewer.AGAIN
    mine = _of(trials, check)
    surely = sized(spec, mine).replicas
    if here[-1].passed and (surely <= check.loaded_replicas or _as_sure(here, surely > check.held_together)):
        return Fewer.HELD
    hopeless = not here[-1].passed and enough(spec, mine.belief, check.loaded_replicas) < LIKELY
    return Fewer.STOP if hopeless or len(here) >= _TWICE else Fewer.AGAIN


def _as_sure(here: Sequence[Level], held_by_levels: bool) -> bool:
    """Say whether fewer replicas passed as many levels as more did that held by their levels alone."""
    return held_by_levels and len(here) >= _TWICE and all(level.passed for level in here)


def cannot_shrink(spec: ServiceSpec, trials: Sequence[Trial], check: Trial) -> str | None:
    """Return why one replica fewer than held is not tried, None when it is."""
    fewer, objective = check.held_together - 1, spec.tuning.objective
    if objective.kind is not ObjectiveKind.LOWEST_COST:
        return "all GPUs are used"
    if fewer <= objective.spare_replicas:
        return "there is none to do without"
    if any(not level.passed for level in levels_of(check, fewer)):
        return f"{fewer} missed before"
    if fewer * check.config.gpus_per_replica <= too_few_gpus(trials, check.config):
        return f"{fewer} as good missed before"
    if enough(spec, _of(trials, check).belief, fewer) < UNLIKELY:
        return f"{fewer} would hardly do"
    return None


def told(check: Trial) -> str | None:
    """Say what fewer replicas did in a check that held, and of levels that missed; None where there is nothing to."""
    return "; ".join(_told(check)) or None


def _told(check: Trial) -> Iterator[str]:
    if check.held_replicas is None:
        return
    here = levels_of(check, check.held_replicas)
    if missed := sum(not level.passed for level in here):
        yield f"{missed} of {len(here)} levels missed a limit, {_of_all(here)}"
    if check.held_replicas < check.replicas:
        yield f"{check.replicas} were started, {check.held_replicas} are enough"
    tried = levels_of(check, check.held_replicas - 1)
    if not tried:
        return
    what = f"{tried[-1].rate_rps:.3g} requests/s, the target with its headroom"
    fewer = check.held_replicas - 1
    yield f"{fewer} held {what}, but not surely" if tried[-1].passed else f"{fewer} missed {what}"


def _of_all(here: Sequence[Level]) -> str:
    return "all of them together met every one" if met_together(here) else "the others and the last met every one"


def held_rate_rps(check: Trial) -> float | None:
    """Return requests/s that the replicas of a check carried last, those that held together; None before any level."""
    here = [level for level in check.levels if (level.replicas or check.replicas) == check.held_together]
    last = here or check.levels
    return last[-1].rate_rps if last else None


def check_rps(spec: ServiceSpec, usual_rps: float, check: Trial) -> float:
    """Return requests/s that a check's next level brings: with one replica fewer the headroom on top."""
    return usual_rps if check.held_replicas is None else headroom_rps(spec)


def _of(trials: Sequence[Trial], check: Trial) -> Measured:
    found = measured([*(t for t in trials if t.trial_id != check.trial_id), check])
    return found[check.config.content_hash()]
