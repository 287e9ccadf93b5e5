"""GpuSource on NVML: the GPUs of this host. The one file that imports nvidia-ml-py.

Needs the standard library and that package only. What a card or a driver does not tell is None, never zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

from controlplane.domain.engines.gpu import GpuReading, throttles
from controlplane.domain.errors import Unavailable

if TYPE_CHECKING:
    from controlplane.domain.base import EngineId
    from controlplane.domain.engines.fleet import Engine

_GIB = 2**30


class NvmlGpus:
    """Opens NVML with the first look, and again after a look that failed; `nvml` is the module, given by tests."""

    def __init__(self, nvml: Any = None) -> None:
        self._nvml = nvml
        self._is_open = False
        self._one = Lock()

    def read(self, engines: Sequence[Engine]) -> Mapping[EngineId, Sequence[GpuReading]]:
        """See `ports.GpuSource.read`. GPUs are known by their numbers, which are NVML's."""
        wanted = {gpu for engine in engines for gpu in engine.gpu_indices}
        told = {reading.gpu: reading for reading in self.readings(wanted)} if wanted else {}
        mine = {each.spec.engine_id: [str(gpu) for gpu in each.gpu_indices if str(gpu) in told] for each in engines}
        return {engine: tuple(told[gpu] for gpu in gpus) for engine, gpus in mine.items() if gpus}

    def readings(self, wanted: set[int] | None = None) -> tuple[GpuReading, ...]:
        """Return every GPU of the host, or those of these numbers; one that is lost is left out. Raises Unavailable."""
        with self._one:
            nvml = self._opened()
            count = self._asked(nvml.nvmlDeviceGetCount)
            numbers = range(count) if wanted is None else [each for each in sorted(wanted) if each < count]
            found = [self._reading(nvml, number) for number in numbers]
        return tuple(each for each in found if each is not None)

    def _opened(self) -> Any:
        if self._nvml is None:
            self._nvml = _module()
        if not self._is_open:
            self._asked(self._nvml.nvmlInit)
            self._is_open = True
        return self._nvml

    def _asked(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except self._nvml.NVMLError as error:
            self._is_open = False
            raise Unavailable("GPUs cannot be read", why=f"NVML: {error}") from error

    def _reading(self, nvml: Any, number: int) -> GpuReading | None:
        def told(ask: Callable[[Any], Any]) -> Any:
            try:
                return ask(handle)
            except nvml.NVMLError:  # not of this card or driver
                return None

        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(number)
        except nvml.NVMLError:
            return None
        memory, busy = told(nvml.nvmlDeviceGetMemoryInfo), told(nvml.nvmlDeviceGetUtilizationRates)
        milliwatts, mask = told(nvml.nvmlDeviceGetPowerUsage), told(nvml.nvmlDeviceGetCurrentClocksThrottleReasons)
        degrees = told(lambda device: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU))
        return GpuReading(
            str(number),
            memory_used_gib=None if memory is None else memory.used / _GIB,
            memory_total_gib=None if memory is None else memory.total / _GIB,
            utilisation_percent=None if busy is None else float(busy.gpu),
            power_w=None if milliwatts is None else milliwatts / 1e3,
            temperature_c=None if degrees is None else float(degrees),
            throttled=None if mask is None else throttles(mask),
        )


def _module() -> Any:
    try:
        import pynvml
    except ImportError as error:
        raise Unavailable("GPUs cannot be read", why="nvidia-ml-py is not installed") from error
    return pynvml
