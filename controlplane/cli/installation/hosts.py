"""The GPUs of this host, or the cluster in its stead, as the services need them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from controlplane.adapters.fleet_processes.commands import require_program
from controlplane.domain.engines.engine import EngineKind
from controlplane.domain.errors import InvalidInput
from controlplane.domain.service import ServiceSpec
from controlplane.settings import ClusterAccess
from controlplane.wiring import machine


class FleetKind(StrEnum):
    """Where engines run."""

    PROCESSES = "processes"
    KUBERNETES = "kubernetes"


def cluster_of(
    fleet: FleetKind,
    specs: Sequence[ServiceSpec],
    *,
    kubeconfig: Path | None,
    context: str | None,
    namespace: str | None,
) -> ClusterAccess | None:
    """Return the cluster to run engines on, None for this host. Raises what is wrong with the cluster, if anything."""
    match fleet:
        case FleetKind.KUBERNETES:
            return machine.reach_cluster(kubeconfig, context, namespace, specs)
        case FleetKind.PROCESSES:
            given = {"--kubeconfig": kubeconfig, "--context": context, "--namespace": namespace}
            if unused := [name for name, value in given.items() if value is not None]:
                raise InvalidInput(f"{', '.join(unused)} without a cluster", allowed="with --fleet kubernetes")
            return None


def gpus_of(specs: Sequence[ServiceSpec], given: int | None) -> tuple[int, ...]:
    """Return the GPU indices: so many as given, as the emulated services have, or as nvidia-smi says.

    Raises InvalidInput when a service wants real engines and vLLM is not installed or the host has no GPU.
    """
    require_engines(specs)
    if given is not None:
        return tuple(range(given))
    if not any(needs_gpus(spec) for spec in specs):
        return tuple(range(max(spec.gpus.count for spec in specs)))
    try:
        return machine.host_gpus()
    except InvalidInput as error:
        raise InvalidInput(
            f"no GPU for engine kind {_kinds(specs)}",
            why=str(error),
            allowed="engine.kind: emulator, gpus.type: CPU for an engine that needs none, or a host with GPUs",
        ) from error


def spot_of(gpus: Sequence[int], spot: Sequence[int]) -> tuple[int, ...]:
    """Return the GPUs that may be taken back. Raises InvalidInput for one that is not here."""
    strange = sorted(set(spot) - set(gpus))
    if strange:
        raise InvalidInput(
            f"--spot-gpu {strange[0]}",
            why="this installation has no such GPU",
            allowed=", ".join(str(each) for each in gpus) or "none: on a cluster kubernetes.spot names the nodes",
        )
    return tuple(sorted(set(spot)))


def needs_gpus(spec: ServiceSpec) -> bool:
    """Say whether a service's engines hold real GPUs."""
    return spec.engine.kind is not EngineKind.EMULATOR and not spec.gpus.is_cpu


def _kinds(specs: Sequence[ServiceSpec]) -> str:
    return ", ".join(sorted({spec.engine.kind.value for spec in specs if needs_gpus(spec)}))


def require_engines(specs: Sequence[ServiceSpec]) -> None:
    """Raise InvalidInput for a service whose engine's program is not on this host: known before anything starts."""
    for spec in (way for each in specs for way in each.ways.values()):
        require_program(spec.engine.driver, spec.engine.command)
