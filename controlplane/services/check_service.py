"""What of a service can be known to be wrong before anything is saved or started."""

from __future__ import annotations

from difflib import get_close_matches

from controlplane.domain.errors import InvalidInput
from controlplane.domain.launch import without_emulator_flags
from controlplane.domain.operations.alerts import AlertOptions
from controlplane.domain.operations.known_alerts import ALL_NAMES
from controlplane.domain.service import EngineOptions, ServiceSpec
from controlplane.domain.workload import TraceWorkload
from tuner.space.knobs.checks import check_flags

GIVEN_VARIABLES = frozenset({"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"})
"""What each engine is given with its GPUs; what a description says of them would not hold."""


def check_service(spec: ServiceSpec) -> None:
    """Refuse unknown flags, GPUs that an engine names itself, acts on alerts that never come, and an unreadable trace.

    Raises InvalidInput.
    """
    for way in spec.ways.values():
        check_flags(without_emulator_flags(way.baseline), way.engine)
        _check_variables(way.engine)
    _check_alerts(spec.alerts)
    if isinstance(spec.workload, TraceWorkload):
        from loadtests.send.cutting import cut_rows  # numpy, into every process that knows services
        from loadtests.send.traces import load_trace

        cut_rows(spec.workload, load_trace(spec.workload.trace)).check(spec.workload)


def _check_alerts(options: AlertOptions) -> None:
    """An act on a misspelt alert of ours would be missed in the night it is needed; alerts of others may be any."""
    for name in options.actions:
        if name.startswith("Fleetune") and name not in ALL_NAMES:
            near = get_close_matches(name, sorted(ALL_NAMES), n=1) or [""]
            raise InvalidInput(
                f"alerts.actions: there is no alert {name}",
                why=f"did you mean {near[0]}?" if near[0] else "",
                allowed=", ".join(sorted(ALL_NAMES)) + ", and alerts of your own that do not begin with Fleetune",
            )


def _check_variables(engine: EngineOptions) -> None:
    if named := sorted(GIVEN_VARIABLES & set(engine.env)):
        raise InvalidInput(
            f"engine.env {', '.join(named)} cannot be set",
            why="each engine is given GPUs of its own",
            allowed="CUDA_VISIBLE_DEVICES in the environment of `fleetune up`, for the GPUs that it may use",
        )
