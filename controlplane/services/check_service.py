"""What of a service can be known to be wrong before anything is saved or started."""

from __future__ import annotations

from controlplane.domain.launch import without_emulator_flags
from controlplane.domain.service import ServiceSpec
from controlplane.domain.workload import TraceWorkload
from loadtests.send.cutting import cut_rows
from loadtests.send.traces import load_trace
from tuner.space.knobs.checks import check_flags


def check_service(spec: ServiceSpec) -> None:
    """Refuse flags that this engine does not know, and a trace that cannot be read or is cut too often.

    Raises InvalidInput.
    """
    for way in spec.ways.values():
        check_flags(without_emulator_flags(way.baseline), way.engine)
    if isinstance(spec.workload, TraceWorkload):
        cut_rows(spec.workload, load_trace(spec.workload.trace)).check(spec.workload)
