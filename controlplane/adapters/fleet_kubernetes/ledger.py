"""Which engines one Deployment stands for, kept in an annotation of the Deployment itself. Pure.

An engine id is one life of one pod. The number of replicas and the ledger change in one write, so a crash between two
steps leaves nothing to repair by hand: whoever looks next goes on from what the ledger says.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from controlplane.domain.base import EngineId, Value
from controlplane.domain.engines.fleet import EngineSpec, EngineState
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.errors import Unavailable

LEDGER = "fleetune.dev/engines"
SPEC = "fleetune.dev/spec"


class Entry(Value):
    """One engine. `pod` is None until the cluster has made one for it."""

    started_at: AwareDatetime
    pod: str | None = None
    uid: str | None = None  # of that pod: a set gives the name to another when it dies
    restarts: int = 0  # of the pod's container when this engine took it over
    ready_at: AwareDatetime | None = None
    node: str | None = None  # where it became ready
    drain_until: AwareDatetime | None = None  # set: somebody asked it to stop
    failure: StartFailure | None = None
    detail: str | None = None
    ended_at: AwareDatetime | None = None  # set: its pod is gone, its GPUs are free

    @property
    def is_wanted(self) -> bool:
        """Whether the Deployment is to have a pod for it."""
        return self.drain_until is None and self.failure is None and self.ended_at is None

    @property
    def state(self) -> EngineState:
        if self.ended_at is not None:
            return EngineState.FAILED if self.failure is not None else EngineState.STOPPED
        if self.drain_until is not None:
            return EngineState.DRAINING
        return EngineState.STARTING if self.ready_at is None else EngineState.READY

    def drained_by(self, deadline: datetime) -> Entry:
        """Return the entry of an engine asked to stop by `deadline`; an earlier deadline stays."""
        return self.evolve(drain_until=deadline if self.drain_until is None else min(self.drain_until, deadline))


Ledger = Mapping[EngineId, Entry]
"""Oldest first."""

_LEDGER: TypeAdapter[dict[EngineId, Entry]] = TypeAdapter(dict[EngineId, Entry])


def replicas(ledger: Ledger) -> int:
    """Return how many pods the Deployment is to have."""
    return sum(entry.is_wanted for entry in ledger.values())


def noted(spec: EngineSpec, ledger: Ledger) -> dict[str, str]:
    """Return what the Deployment carries. Values of variables may be secret and are not among it."""
    shown = spec.model_copy(update={"env": {}})
    return {
        SPEC: shown.model_dump_json(exclude_defaults=True),
        LEDGER: _LEDGER.dump_json(dict(ledger), exclude_defaults=True).decode(),
    }


def is_ours(workload: Mapping[str, Any]) -> bool:
    """Say whether a fleet made a Deployment or set: what another tool applies of the rendered ones has no notes."""
    return SPEC in workload["metadata"].get("annotations", {})


def read_ledger(deployment: Mapping[str, Any]) -> Ledger:
    """Return the engines of a Deployment. Raises Unavailable when somebody damaged its annotation."""
    try:
        return _LEDGER.validate_json(_annotation(deployment, LEDGER, "{}"))
    except ValidationError as error:
        raise _damaged(deployment, LEDGER) from error


def read_spec(deployment: Mapping[str, Any]) -> EngineSpec:
    """Return what every engine of a Deployment runs. Raises Unavailable when somebody damaged its annotation."""
    try:
        return EngineSpec.model_validate_json(_annotation(deployment, SPEC, ""))
    except ValidationError as error:
        raise _damaged(deployment, SPEC) from error


def _annotation(deployment: Mapping[str, Any], name: str, default: str) -> str:
    found: str = deployment["metadata"].get("annotations", {}).get(name, default)
    return found


def _damaged(deployment: Mapping[str, Any], name: str) -> Unavailable:
    where = f"{deployment['metadata'].get('namespace')}/{deployment['metadata']['name']}"
    return Unavailable(f"deployment {where} is damaged", why=f"its annotation {name} cannot be read")
