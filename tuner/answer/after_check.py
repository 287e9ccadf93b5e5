"""The fleet that a candidate needs, by its last check together. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.domain.report import Validity
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.capacity import FleetSize, fleet_size
from controlplane.domain.studies.study import Level, Trial, TrialState
from tuner.answer.evidence import Measured
from tuner.answer.fleets import exists, gains, holds
from tuner.answer.named import LIKELY, named


def fleet_after(
    spec: ServiceSpec, candidate: Measured, baseline: Measured | None, check: Trial | None, too_few: int
) -> FleetSize:
    """Return what it needs: as many as held together; more than missed together, `too_few` GPUs of others included."""
    size, gpus = named(spec, candidate, baseline), candidate.config.gpus_per_replica
    if check is None:
        return fleet_size(max(size.replicas, too_few // gpus + 1 if too_few else 1), gpus, spec.gpus)
    if check.state is TrialState.RUNNING:
        return size
    if check.state is TrialState.FEASIBLE:
        return fleet_size(check.held_together, gpus, spec.gpus)
    return _after_a_miss(spec, candidate, baseline, check, size)


def _after_a_miss(
    spec: ServiceSpec, candidate: Measured, baseline: Measured | None, check: Trial, size: FleetSize
) -> FleetSize:
    """Return more than missed together; as many all the same, where all of the check's levels together met every limit
    (it ends when half of them missed, each by a little perhaps), they rather hold by all that was measured, and more
    cannot be had or are less of a gain. What truly missed together is not talked away by what each carried alone.
    """
    gpus = candidate.config.gpus_per_replica
    here = levels_of(check, check.replicas)
    as_many = fleet_size(check.replicas, gpus, spec.gpus)
    more = fleet_size(max(size.replicas, check.replicas + 1), gpus, spec.gpus)
    if not here or not met_together(here) or holds(spec, candidate.belief, check.replicas) < LIKELY:
        return more
    if baseline is None or not exists(spec, more):
        return more if exists(spec, more) else as_many
    return max((more, as_many), key=lambda fleet: gains(spec, fleet, candidate, baseline))


def levels_of(check: Trial, replicas: int) -> list[Level]:
    """Return a check's valid levels of a fleet of so many replicas, in order."""
    valid = (level for level in check.levels if level.report.validity is Validity.VALID)
    return [level for level in valid if (level.replicas or check.replicas) == replicas]


def met_together(levels: Sequence[Level]) -> bool:
    """Say whether levels of one rate met every limit together, though some missed one: by the mean of their shares of
    misses. One that ended early counts with its own share, which is rather too high: a burst ended it.
    """
    missed = [level for level in levels if not level.passed]
    by_misses = all(any(not check.met for check in level.report.slo_checks) for level in missed)
    of_each = zip(*(level.report.slo_checks for level in levels), strict=True)
    shares = ((checks[0].slo, sum(each.miss_ratio for each in checks) / len(checks)) for checks in of_each)
    return by_misses and all(share <= slo.allowed_miss_ratio for slo, share in shares)
