"""From a belief about one replica to whole fleets: which one holds the target with the declared probability, and what
it costs beside the baseline's. Money is that of whole fleets that exist; the cost of a request only breaks ties. Pure.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.capacity import FleetSize, fleet_size, replicas_for
from controlplane.domain.studies.tuning_options import ObjectiveKind
from tuner.answer.evidence import Measured
from tuner.answer.likelihood import Array
from tuner.answer.objective import shortfalls
from tuner.answer.posterior import Belief

_MOST_REPLICAS = 1024


class Interval(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def sized(spec: ServiceSpec, measured: Measured) -> FleetSize:
    """Return the fleet a configuration needs, whether or not it exists on the service's GPUs.

    The smallest that holds the target with probability `tuning.confidence`, and with the headroom by the best estimate;
    spare replicas on top. For highest goodput all that the GPUs hold.
    """
    gpus = measured.config.gpus_per_replica
    objective = spec.tuning.objective
    match objective.kind:
        case ObjectiveKind.HIGHEST_GOODPUT:
            return fleet_size(max(1, spec.gpus.count // gpus), gpus, spec.gpus)
        case ObjectiveKind.LOWEST_COST:
            target, belief = spec.slos.target_qps, measured.belief
            least = replicas_for(target, belief.median_rps, headroom=objective.headroom)
            sure = replicas_for(target, belief.quantile(1 - spec.tuning.confidence), headroom=0)
            replicas = min(max(least, sure), _MOST_REPLICAS) + objective.spare_replicas
            return fleet_size(replicas, gpus, spec.gpus)


def may_need(spec: ServiceSpec, measured: Measured) -> tuple[int, int]:
    """Return how many replicas the target takes if the capacity is good and if it is not (its quartiles)."""
    objective, belief = spec.tuning.objective, measured.belief
    match objective.kind:
        case ObjectiveKind.HIGHEST_GOODPUT:
            replicas = sized(spec, measured).replicas
            return replicas, replicas
        case ObjectiveKind.LOWEST_COST:
            few, many = (
                min(replicas_for(spec.slos.target_qps, rps, headroom=objective.headroom), _MOST_REPLICAS)
                for rps in (belief.quantile(0.75), belief.quantile(0.25))
            )
            return few + objective.spare_replicas, many + objective.spare_replicas


def holds(spec: ServiceSpec, belief: Belief, replicas: int) -> float:
    """Return the probability that so many replicas, the spare ones idle, meet every limit at the rate they must carry.

    That is the target; for highest goodput all that they are believed to carry, less the headroom.
    """
    objective = spec.tuning.objective
    match objective.kind:
        case ObjectiveKind.HIGHEST_GOODPUT:
            return belief.at_least(belief.median_rps * (1 - objective.headroom))
        case ObjectiveKind.LOWEST_COST:
            return belief.at_least(spec.slos.target_qps / max(1, replicas - objective.spare_replicas))


def carried_rps(spec: ServiceSpec, belief: Belief, replicas: int) -> float:
    """Return requests per second that a fleet is to carry, and is checked with."""
    match spec.tuning.objective.kind:
        case ObjectiveKind.HIGHEST_GOODPUT:
            return belief.median_rps * replicas * (1 - spec.tuning.objective.headroom)
        case ObjectiveKind.LOWEST_COST:
            return spec.slos.target_qps


def headroom_rps(spec: ServiceSpec) -> float:
    """Return requests per second that a fleet with the headroom carries at most: the target over what is left of it."""
    return spec.slos.target_qps / (1 - spec.tuning.objective.headroom)


def carries_the_target(spec: ServiceSpec, capacity_rps: float) -> bool:
    """Say whether one replica carries the target with its headroom, so that more capacity makes no fleet cheaper.

    Never for highest goodput, where every request per second counts.
    """
    match spec.tuning.objective.kind:
        case ObjectiveKind.LOWEST_COST:
            return capacity_rps >= headroom_rps(spec)
        case ObjectiveKind.HIGHEST_GOODPUT:
            return False


def enough(spec: ServiceSpec, belief: Belief, replicas: int) -> float:
    """Return the probability that so many replicas, the spare ones idle, carry the target with its headroom."""
    return belief.at_least(headroom_rps(spec) / max(1, replicas - spec.tuning.objective.spare_replicas))


def exists(spec: ServiceSpec, fleet: FleetSize) -> bool:
    """Say whether a fleet fits the service's GPUs and ceilings."""
    return not shortfalls(spec, fleet)


def largest_here(spec: ServiceSpec, measured: Measured) -> FleetSize | None:
    """Return the largest fleet of a configuration that the service's GPUs and ceilings allow, spare replicas included;
    None where there is none that carries anything.
    """
    gpus = measured.config.gpus_per_replica
    replicas = most_gpus(spec) // gpus
    return fleet_size(replicas, gpus, spec.gpus) if replicas > spec.tuning.objective.spare_replicas else None


def reach(spec: ServiceSpec, measured: Measured) -> float:
    """Return the probability that the largest fleet of a configuration here holds the target; 0 where there is none."""
    fleet = largest_here(spec, measured)
    return 0.0 if fleet is None else holds(spec, measured.belief, fleet.replicas)


def needed(spec: ServiceSpec, measured: Measured) -> Array:
    """Return what the fleet that a configuration truly needs may cost: equally likely values, the dearest first.

    In GPUs, which all have one price. For highest goodput: minus the requests per second of all GPUs.
    """
    capacities, gpus = measured.belief.samples(), measured.config.gpus_per_replica
    objective = spec.tuning.objective
    match objective.kind:
        case ObjectiveKind.HIGHEST_GOODPUT:
            return -capacities * (spec.gpus.count // gpus)
        case ObjectiveKind.LOWEST_COST:
            replicas = np.ceil(spec.slos.target_qps / (capacities * (1 - objective.headroom)) - 1e-9)
            return (np.clip(replicas, 1.0, _MOST_REPLICAS) + objective.spare_replicas) * gpus


def costs(spec: ServiceSpec, measured: Measured) -> Array:
    """Return `needed`, infinite where the fleet does not exist on the service's GPUs or within its ceilings."""
    found = needed(spec, measured)
    if spec.tuning.objective.kind is ObjectiveKind.HIGHEST_GOODPUT:
        return found
    most = most_gpus(spec)
    return np.where(found > most, np.inf, found)


def most_gpus(spec: ServiceSpec) -> int:
    """Return how many GPUs a fleet may take: those there are, and those the ceiling pays for."""
    price, ceiling = spec.gpus.price_usd_per_gpu_hour, spec.slos.max_usd_per_hour
    if ceiling is None or price == 0:
        return spec.gpus.count
    return min(spec.gpus.count, math.floor(ceiling / price + 1e-9))


def cheaper(spec: ServiceSpec, fleet: FleetSize, measured: Measured, than: Measured) -> float:
    """Return the probability that `fleet` of one configuration costs less than what another one truly needs.

    For highest goodput: that all GPUs carry more.
    """
    theirs = costs(spec, than)
    match spec.tuning.objective.kind:
        case ObjectiveKind.HIGHEST_GOODPUT:
            return below(costs(spec, measured), theirs)
        case ObjectiveKind.LOWEST_COST:
            return float(np.mean(fleet.gpus < theirs))


def gains(spec: ServiceSpec, fleet: FleetSize, measured: Measured, than: Measured) -> float:
    """Return the probability that `fleet` holds the target, and that as many GPUs of another configuration carry less
    than it, and less than the target with its headroom.

    So both are held to one standard: a fleet that holds without the headroom is no gain over one that does as well.
    For highest goodput: that all GPUs carry more.
    """
    objective = spec.tuning.objective
    if objective.kind is ObjectiveKind.HIGHEST_GOODPUT:
        return cheaper(spec, fleet, measured, than)
    as_many = fleet.gpus // than.config.gpus_per_replica
    ours = measured.belief.samples() * max(1, fleet.replicas - objective.spare_replicas)
    theirs = than.belief.samples() * max(0, as_many - objective.spare_replicas)
    behind = theirs[theirs < headroom_rps(spec)]
    ahead = np.searchsorted(behind, ours[ours >= spec.slos.target_qps], side="left")  # both lowest first
    return float(ahead.sum()) / (ours.size * theirs.size)


def below(ours: Array, theirs: Array) -> float:
    """Return the probability that a draw of the one lies below a draw of the other."""
    return float(np.mean(ours[:, None] < theirs[None, :]))


def ratio(ours: Array, theirs: Array) -> Interval:
    """Return the quotient of two independent quantities, each given by equally likely positive values."""
    quotients = np.sort((ours[:, None] / theirs[None, :]).ravel())
    low, value, high = np.quantile(quotients, (0.025, 0.5, 0.975))
    return Interval(float(value), float(low), float(high))


def cost_ratio(spec: ServiceSpec, fleet: FleetSize, measured: Measured, than: Measured, was: FleetSize) -> Interval:
    """Return what `fleet` costs over the baseline's fleet `was`, and over what the baseline may truly need (95 %).

    For highest goodput: the cost of a request, all GPUs being used.
    """
    match spec.tuning.objective.kind:
        case ObjectiveKind.HIGHEST_GOODPUT:
            return ratio(-needed(spec, than), -needed(spec, measured))
        case ObjectiveKind.LOWEST_COST:
            low, high = np.quantile(fleet.gpus / needed(spec, than), (0.025, 0.975))
            value = fleet.gpus / was.gpus
            return Interval(value, min(float(low), value), max(float(high), value))
