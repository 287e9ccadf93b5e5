"""The GPUs a service may use and what they cost."""

from __future__ import annotations

from pydantic import Field

from controlplane.domain.base import Value


class GpuPool(Value):
    """GPUs of one type. Prices are the user's own: Fleetune knows none."""

    type: str = Field(
        examples=["H200"],
        description="Name as nvidia-smi or rocm-smi gives it, or short: H100, L40S, MI300X. One the twin does "
        "not know is tuned without predictions. CPU: places for engines that need no GPU.",
    )
    count: int = Field(ge=1)
    price_usd_per_gpu_hour: float = Field(ge=0)
    memory_gib: float | None = Field(
        default=None, gt=0, description="Memory of one GPU, where the data sheet is silent or wrong."
    )
    bandwidth_gb_s: float | None = Field(default=None, gt=0, description="Memory bandwidth of one GPU.")
    tflops: float | None = Field(default=None, gt=0, description="Dense bf16 tensor rate of one GPU, 1e12 FLOP/s.")

    @property
    def is_cpu(self) -> bool:
        """True when the pool is places on a host without GPUs: `type: CPU`."""
        return self.type.upper() == "CPU"


def usd_per_hour(pool: GpuPool, gpus: int) -> float:
    """Return what `gpus` GPUs of the pool cost per hour, USD."""
    return gpus * pool.price_usd_per_gpu_hour
