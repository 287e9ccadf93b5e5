"""What of a service can be known to be wrong before anything is saved or started."""

from __future__ import annotations

from controlplane.domain.errors import InvalidInput
from controlplane.domain.launch import without_emulator_flags
from controlplane.domain.service import EngineOptions, ServiceSpec
from controlplane.domain.workload import TraceWorkload
from loadtests.send.cutting import cut_rows
from loadtests.send.traces import load_trace
from tuner.space.knobs.checks import check_flags

GIVEN_VARIABLES = frozenset({"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"})
"""What each engine is given with its GPUs; what a description says of them would not hold."""


def check_service(spec: ServiceSpec) -> None:
    """Refuse flags that this engine does not know, GPUs that it names itself, and a trace that cannot be read.

    Raises InvalidInput.
    """
    for way in spec.ways.values():
        check_flags(without_emulator_flags(way.baseline), way.engine)
        _check_variables(way.engine)
    if isinstance(spec.workload, TraceWorkload):
        cut_rows(spec.workload, load_trace(spec.workload.trace)).check(spec.workload)


def _check_variables(engine: EngineOptions) -> None:
    if named := sorted(GIVEN_VARIABLES & set(engine.env)):
        raise InvalidInput(
            f"engine.env {', '.join(named)} cannot be set",
            why="each engine is given GPUs of its own",
            allowed="CUDA_VISIBLE_DEVICES in the environment of `fleetune up`, for the GPUs that it may use",
        )
