"""What one GPU says of itself, whoever asked it: NVML on a host, a DCGM exporter on a cluster, an emulated engine.

The standard library only: a host with a driver and nothing else of ours can read its GPUs. What nobody told is None,
never zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MOST_GPUS = 16
"""Of one engine; of more nothing is kept, so that what is kept of an engine has a limit."""


class Throttle(StrEnum):
    """Why a GPU's clocks are held back, in the order of the bits that NVML and DCGM share."""

    POWER_CAP = "power cap"  # usual for a busy GPU at its limit
    HW_SLOWDOWN = "hardware slowdown"
    SYNC_BOOST = "sync boost"
    SW_THERMAL = "thermal, by the driver"
    HW_THERMAL = "thermal, by the hardware"
    POWER_BRAKE = "power brake"

    @property
    def bit(self) -> int:
        """Return its place in the mask: bits 0 and 1, idle and chosen clocks, hold nothing back."""
        return tuple(Throttle).index(self) + 2

    @property
    def is_harm(self) -> bool:
        """True when something is wrong with cooling or supply: a person must look."""
        match self:
            case Throttle.POWER_CAP | Throttle.SYNC_BOOST:
                return False
            case Throttle.HW_SLOWDOWN | Throttle.SW_THERMAL | Throttle.HW_THERMAL | Throttle.POWER_BRAKE:
                return True


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU at one moment. `gpu` is its number on the host, or within the engine where nobody knows that one."""

    gpu: str
    memory_used_gib: float | None = None
    memory_total_gib: float | None = None
    utilisation_percent: float | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    throttled: tuple[Throttle, ...] | None = None

    @property
    def memory_percent(self) -> float | None:
        """Return how full its memory is; None when either number is missing."""
        if self.memory_used_gib is None or not self.memory_total_gib:
            return None
        return min(100.0, 100 * self.memory_used_gib / self.memory_total_gib)


@dataclass(frozen=True, slots=True)
class EngineGpu:
    """A GPU of one engine."""

    engine: str
    reading: GpuReading

    @property
    def harm(self) -> tuple[Throttle, ...]:
        """Return what holds it back and should not."""
        return tuple(each for each in self.reading.throttled or () if each.is_harm)


class DcgmName(StrEnum):
    """The DCGM exporter's names, which emulated engines and the control plane's page use too."""

    USED_MIB = "DCGM_FI_DEV_FB_USED"
    FREE_MIB = "DCGM_FI_DEV_FB_FREE"
    UTILISATION_PERCENT = "DCGM_FI_DEV_GPU_UTIL"
    POWER_W = "DCGM_FI_DEV_POWER_USAGE"
    TEMPERATURE_C = "DCGM_FI_DEV_GPU_TEMP"
    THROTTLE_MASK = "DCGM_FI_DEV_CLOCKS_EVENT_REASONS"
    THROTTLE_MASK_BEFORE_DCGM_4 = "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS"


MIB_PER_GIB = 1024.0


def throttles(mask: int) -> tuple[Throttle, ...]:
    """Return what holds the clocks back, from the mask of NVML or DCGM."""
    return tuple(each for each in Throttle if mask >> each.bit & 1)


def throttle_mask(reasons: tuple[Throttle, ...]) -> int:
    """Return the mask of these reasons."""
    return sum(1 << each.bit for each in reasons)


def from_dcgm(gpu: str, told: dict[str, float]) -> GpuReading:
    """Return a reading from the exporter's numbers of one GPU by their names."""
    used, free = told.get(DcgmName.USED_MIB), told.get(DcgmName.FREE_MIB)
    mask = told.get(DcgmName.THROTTLE_MASK, told.get(DcgmName.THROTTLE_MASK_BEFORE_DCGM_4))
    return GpuReading(
        gpu,
        memory_used_gib=None if used is None else used / MIB_PER_GIB,
        memory_total_gib=None if used is None or free is None else (used + free) / MIB_PER_GIB,
        utilisation_percent=told.get(DcgmName.UTILISATION_PERCENT),
        power_w=told.get(DcgmName.POWER_W),
        temperature_c=told.get(DcgmName.TEMPERATURE_C),
        throttled=None if mask is None else throttles(int(mask)),
    )


def to_dcgm(reading: GpuReading) -> dict[DcgmName, float]:
    """Return the exporter's numbers of a reading; what it does not tell is left out."""
    used, total = reading.memory_used_gib, reading.memory_total_gib
    told = {
        DcgmName.USED_MIB: None if used is None else used * MIB_PER_GIB,
        DcgmName.FREE_MIB: None if used is None or total is None else (total - used) * MIB_PER_GIB,
        DcgmName.UTILISATION_PERCENT: reading.utilisation_percent,
        DcgmName.POWER_W: reading.power_w,
        DcgmName.TEMPERATURE_C: reading.temperature_c,
        DcgmName.THROTTLE_MASK: None if reading.throttled is None else float(throttle_mask(reading.throttled)),
    }
    return {name: value for name, value in told.items() if value is not None}
