"""The GPUs a service may use and what they cost."""

from __future__ import annotations

from pydantic import Field

from controlplane.domain.base import Value


class GpuPool(Value):
    """GPUs of one type. Prices are the user's own: Fleetune knows none."""

    type: str = Field(examples=["H200"], description="Name in the GPU data sheet of the twin, e.g. H100, H200, L40S.")
    count: int = Field(ge=1)
    price_usd_per_gpu_hour: float = Field(ge=0)


def usd_per_hour(pool: GpuPool, gpus: int) -> float:
    """Return what `gpus` GPUs of the pool cost per hour, USD."""
    return gpus * pool.price_usd_per_gpu_hour
