"""What a capacity is worth: the number the search lowers, the fleet recommended for it, and the rate worth beating.

The search lowers a smooth cost (as if replicas could be cut in pieces): whole replicas make plateaus on which no search
can tell better from worse. But no fleet is smaller than one replica: capacity beyond what the target needs of it is
worth little, so that a small replica which suffices beats a large one with more room per GPU. What is recommended and
compared in the end is counted in whole replicas.
"""

from __future__ import annotations

import math

from controlplane.domain.hardware import GpuPool
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.capacity import FleetSize, fleet_size, replicas_for
from controlplane.domain.studies.tuning_options import ObjectiveKind

_ROOM_WORTH = 0.1  # of a doubled capacity beyond one replica's target, against one that halves the replicas


def smooth_cost(spec: ServiceSpec, capacity_rps: float, gpus_per_replica: int) -> float:
    """Return the number to lower: USD per hour at the target QPS with headroom, replicas not rounded.

    Below one replica it falls only little. With a price of 0 GPUs are counted instead. For highest goodput: minus the
    requests per second of all GPUs. Raises ValueError when capacity is 0.
    """
    if capacity_rps <= 0:
        raise ValueError("a replica without capacity has no cost at any target")
    match spec.tuning.objective.kind:
        case ObjectiveKind.LOWEST_COST:
            replicas = spec.slos.target_qps / (capacity_rps * (1 - spec.tuning.objective.headroom))
            whole = replicas if replicas >= 1 else replicas**_ROOM_WORTH
            return (whole + spec.tuning.objective.spare_replicas) * gpus_per_replica * _price(spec.gpus)
        case ObjectiveKind.HIGHEST_GOODPUT:
            return -capacity_rps * spec.gpus.count / gpus_per_replica


def objective_name(spec: ServiceSpec) -> str:
    """Return what `smooth_cost` is, in words, with its unit."""
    match spec.tuning.objective.kind:
        case ObjectiveKind.LOWEST_COST:
            money = "USD per hour" if spec.gpus.price_usd_per_gpu_hour else "GPUs"
            return f"{money} at the target (replicas not rounded; below one, more room is worth little)"
        case ObjectiveKind.HIGHEST_GOODPUT:
            return "minus requests per second of all GPUs"


def log_cost(spec: ServiceSpec, capacity_rps: float, gpus_per_replica: int) -> float:
    """Return the logarithm of GPUs: of the fleet that the target needs, or per request and second of all GPUs.

    Raises ValueError when capacity is 0.
    """
    match spec.tuning.objective.kind:
        case ObjectiveKind.LOWEST_COST:
            return math.log(smooth_cost(spec, capacity_rps, gpus_per_replica) / _price(spec.gpus))
        case ObjectiveKind.HIGHEST_GOODPUT:
            return math.log(spec.gpus.count / -smooth_cost(spec, capacity_rps, gpus_per_replica))


def told_log_cost(spec: ServiceSpec, value: float, gpus_per_replica: int) -> float | None:
    """Return the log cost whose `smooth_cost` is `value`; None when no capacity has it."""
    match spec.tuning.objective.kind:
        case ObjectiveKind.LOWEST_COST:
            gpus = value / _price(spec.gpus)
            spare = spec.tuning.objective.spare_replicas * gpus_per_replica
            return math.log(gpus) if gpus > spare else None
        case ObjectiveKind.HIGHEST_GOODPUT:
            return math.log(spec.gpus.count / -value) if value < 0 else None


def rate_to_beat(spec: ServiceSpec, incumbent_rps: float, incumbent_gpus: int, gpus_per_replica: int) -> float:
    """Return the rate per replica that a candidate must sustain to be worth anything beside the incumbent.

    With it as many replicas as the incumbent's GPUs hold carry the target: the fleet is as cheap. Where they hold none
    it is what one replica must carry. For highest goodput: the same requests per second of all GPUs.
    """
    match spec.tuning.objective.kind:
        case ObjectiveKind.LOWEST_COST:
            objective = spec.tuning.objective
            gpus = min(fleet_for(spec, incumbent_rps, incumbent_gpus).gpus, spec.gpus.count)
            replicas = max(1, gpus // gpus_per_replica - objective.spare_replicas)
            return spec.slos.target_qps / ((1 - objective.headroom) * replicas)
        case ObjectiveKind.HIGHEST_GOODPUT:
            count = spec.gpus.count
            return incumbent_rps * (count // incumbent_gpus) / max(1, count // gpus_per_replica)


def fleet_for(spec: ServiceSpec, capacity_rps: float, gpus_per_replica: int) -> FleetSize:
    """Return replicas and price: what the target needs, or for highest goodput all that the GPUs hold.

    Raises ValueError when capacity is 0.
    """
    match spec.tuning.objective.kind:
        case ObjectiveKind.LOWEST_COST:
            objective = spec.tuning.objective
            replicas = replicas_for(
                spec.slos.target_qps, capacity_rps, headroom=objective.headroom, spare=objective.spare_replicas
            )
        case ObjectiveKind.HIGHEST_GOODPUT:
            replicas = max(1, spec.gpus.count // gpus_per_replica)
    return fleet_size(replicas, gpus_per_replica, spec.gpus)


def shortfalls(spec: ServiceSpec, fleet: FleetSize) -> tuple[str, ...]:
    """Return which of the user's ceilings a fleet breaks: more GPUs than there are, more money than allowed."""
    found = []
    if fleet.gpus > spec.gpus.count:
        found.append(f"needs {fleet.gpus} GPUs for {spec.slos.target_qps:g} requests/s, there are {spec.gpus.count}")
    ceiling = spec.slos.max_usd_per_hour
    if ceiling is not None and fleet.usd_per_hour > ceiling:
        found.append(f"costs {fleet.usd_per_hour:.2f} USD per hour, the ceiling is {ceiling:g}")
    return tuple(found)


def _price(pool: GpuPool) -> float:
    return pool.price_usd_per_gpu_hour or 1.0
