"""GPUs of engines by service, engine and number, from whatever page tells of them by a DCGM exporter's names. Pure."""

from __future__ import annotations

from controlplane.domain.engines.gpu import DcgmName, Throttle
from dashboards.observability.promql import ENGINES

_BY = "service, engine, gpu"
HARMFUL_BITS = tuple(each.bit for each in Throttle if each.is_harm)


def _of_engines(*names: DcgmName) -> str:
    """Return one number of each GPU: of pages that name the engine, else of the pod that the exporter names."""
    return " or ".join([*(_of_engine(name) for name in names), *(_of_pod(name) for name in names)])


def _of_engine(name: DcgmName) -> str:
    return f'max by ({_BY}) ({name.value}{{engine!=""}})'


def _of_pod(name: DcgmName) -> str:
    pods = f'group by (pod, service, engine) (up{{job="{ENGINES}",pod!=""}})'
    told = f'max by (pod, gpu) ({name.value}{{engine="",pod!=""}})'
    return f"max by ({_BY}) ({told} * on (pod) group_left (service, engine) {pods})"


_USED, _FREE = _of_engines(DcgmName.USED_MIB), _of_engines(DcgmName.FREE_MIB)
GPU_SERIES = {
    "fleetune:gpu:utilisation_percent": _of_engines(DcgmName.UTILISATION_PERCENT),
    "fleetune:gpu:memory_used_mib": _USED,
    "fleetune:gpu:memory_ratio": f"({_USED}) / (({_USED}) + ({_FREE}))",
    "fleetune:gpu:power_w": _of_engines(DcgmName.POWER_W),
    "fleetune:gpu:temperature_c": _of_engines(DcgmName.TEMPERATURE_C),
    "fleetune:gpu:throttle_mask": _of_engines(DcgmName.THROTTLE_MASK, DcgmName.THROTTLE_MASK_BEFORE_DCGM_4),
}
"""What is recorded, by name."""
