"""How many replicas of a configuration are named, and checked: as many as surely hold, or fewer where so many would be
no gain. Pure.

`sized` asks that the fleet holds with the declared probability by levels of minutes, which know a capacity to 20 or
30 %. Where that takes a replica more than the best estimate does, and the fleet is then hardly cheaper than the
baseline's, the caution would decide the answer: so the fleet is named that is most likely both, cheaper and enough.
What is missing of the probability that it holds is for the fleet's check to show, or for the answer to say.

Where so many cannot be had at all, the largest fleet here is named, if it rather holds than not: that a target is out
of reach does not follow from caution.

And when such a fleet is called a likely gain, before it is proved.
"""

from __future__ import annotations

from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.capacity import FleetSize, fleet_size, replicas_for
from controlplane.domain.studies.tuning_options import ObjectiveKind
from tuner.answer.evidence import Measured
from tuner.answer.fleets import cheaper, exists, gains, holds, largest_here, most_gpus, reach, sized

LIKELY = 0.5
"""Even odds, from which a fleet is worth a check."""

LIKELY_GAIN = 0.6
"""From this probability of a gain on, one is recommended, unproved. Even odds are those of a configuration that is no
better than the baseline: either may be measured as the better one.
"""


def named(spec: ServiceSpec, candidate: Measured, baseline: Measured | None) -> FleetSize:
    """Return the fleet to name of a configuration: `sized`, unless fewer replicas rather are a gain that holds.

    Never fewer than have the headroom by the best estimate, unless these GPUs hold no more.
    """
    surely = sized(spec, candidate)
    if spec.tuning.objective.kind is not ObjectiveKind.LOWEST_COST:
        return surely
    if not exists(spec, surely):
        return rather_holding(spec, candidate, LIKELY) or surely
    if baseline is None:
        return surely
    objective = spec.tuning.objective
    least = replicas_for(
        spec.slos.target_qps, candidate.belief.median_rps, headroom=objective.headroom, spare=objective.spare_replicas
    )
    gpus = candidate.config.gpus_per_replica
    fleets = [fleet_size(replicas, gpus, spec.gpus) for replicas in range(surely.replicas, least - 1, -1)]
    return max(fleets, key=lambda fleet: gains(spec, fleet, candidate, baseline))


def rather_holding(spec: ServiceSpec, measured: Measured, least: float) -> FleetSize | None:
    """Return the largest fleet of a configuration here, if it holds the target with probability `least`."""
    return largest_here(spec, measured) if reach(spec, measured) >= least else None


def is_likely_gain(
    spec: ServiceSpec, fleet: FleetSize, baseline: Measured, *, gains_chance: float, cheaper_chance: float
) -> bool:
    """Say whether a fleet may be called a likely gain over the baseline without a proof.

    A fleet as large as any that the baseline can have here costs less only if the baseline is out of reach. That has to
    be sure: else what is likely is that the same GPUs hold more.
    """
    if gains_chance < LIKELY_GAIN:
        return False
    if spec.tuning.objective.kind is ObjectiveKind.HIGHEST_GOODPUT:
        return True
    gpus = baseline.config.gpus_per_replica
    return fleet.gpus < most_gpus(spec) // gpus * gpus or cheaper_chance >= spec.tuning.confidence


def largest_cheaper(
    spec: ServiceSpec, candidate: Measured, baseline: Measured, *, below: int, least: float
) -> FleetSize | None:
    """Return the largest fleet of fewer than `below` replicas that is rather cheaper than what the baseline needs and
    holds the target with probability `least`; None where there is none.
    """
    if spec.tuning.objective.kind is not ObjectiveKind.LOWEST_COST:
        return None
    gpus, spare = candidate.config.gpus_per_replica, spec.tuning.objective.spare_replicas
    for replicas in range(below - 1, spare, -1):
        fleet = fleet_size(replicas, gpus, spec.gpus)
        if exists(spec, fleet) and cheaper(spec, fleet, candidate, baseline) >= LIKELY:
            return fleet if holds(spec, candidate.belief, replicas) >= least else None
    return None
