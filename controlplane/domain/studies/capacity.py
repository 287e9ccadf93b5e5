"""From what one replica sustains to how many replicas and how much money. Pure arithmetic."""

from __future__ import annotations

import math

from pydantic import Field

from controlplane.domain.base import Value
from controlplane.domain.hardware import GpuPool, usd_per_hour


class Capacity(Value):
    """Highest request rate one replica sustains within every SLO, with a 95 % interval.

    `censored`: no rate tried was too high, so the capacity lies at `rps` or above.
    """

    rps: float = Field(ge=0)
    low_rps: float = Field(ge=0)
    high_rps: float = Field(ge=0)
    censored: bool = False


class FleetSize(Value):
    """How many replicas a target needs and what they cost."""

    replicas: int = Field(ge=1)
    gpus: int = Field(ge=1)
    usd_per_hour: float = Field(ge=0)


def replicas_for(target_qps: float, capacity_rps: float, *, headroom: float, spare: int = 0) -> int:
    """Return the replicas that carry `target_qps` when each may be loaded to `1 - headroom` of its capacity.

    `spare` more are added so that as many may fail (N+1 for 1). Raises ValueError when capacity is 0.
    """
    if capacity_rps <= 0:
        raise ValueError("a replica without capacity cannot serve any target")
    return max(1, math.ceil(target_qps / (capacity_rps * (1 - headroom)) - 1e-9)) + spare


def fleet_size(replicas: int, gpus_per_replica: int, pool: GpuPool) -> FleetSize:
    """Return the size and price of `replicas` replicas."""
    gpus = replicas * gpus_per_replica
    return FleetSize(replicas=replicas, gpus=gpus, usd_per_hour=usd_per_hour(pool, gpus))


def usd_per_million_tokens(usd_per_hour_: float, tokens_per_s: float) -> float:
    """Return USD per million tokens (prompt and output together) at a sustained `tokens_per_s`."""
    return usd_per_hour_ / (tokens_per_s * 3600) * 1e6
