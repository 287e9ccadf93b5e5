"""Engines as a fleet sees them: what to start, what runs, and why a start failed."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pydantic import AwareDatetime, Field

from controlplane.domain.base import EngineId, Value
from controlplane.domain.engines.driver import EngineDriver
from controlplane.domain.engines.drivers import driver_of, engine_key
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.owner import OwnerField


class EngineState(StrEnum):
    STARTING = "starting"
    READY = "ready"  # healthy and answered a real one-token request
    DRAINING = "draining"  # finishing, gets nothing new
    FAILED = "failed"  # exited, or never became ready; `failure` says why
    STOPPED = "stopped"

    @property
    def is_over(self) -> bool:
        """True when no process of the engine is left and its GPUs are free."""
        match self:
            case EngineState.STOPPED | EngineState.FAILED:
                return True
            case EngineState.STARTING | EngineState.READY | EngineState.DRAINING:
                return False


class EngineSpec(Value):
    """One engine to start. Starting the same id twice is one start (idempotent)."""

    engine_id: EngineId = Field(description="Chosen by the caller: [a-z0-9-]+, unique for ever.")
    owner: OwnerField = Field(description="What wants it.")
    kind: EngineKind
    model: str = Field(description="Folder or hub name given to the engine.")
    served_name: str
    config: EngineConfig
    gpus: int = Field(ge=1)
    spot: bool = Field(default=False, description="On GPUs that may be taken back at a notice; else on demand.")
    command: tuple[str, ...] | None = Field(
        default=None,
        description="Command template; {model}, {port}, {host} and {args} are filled in. None: the kind's own command.",
    )
    mapping: EngineDriver | None = Field(default=None, description="How an engine of kind command is driven.")
    env: Mapping[str, str] = Field(default_factory=dict)
    start_timeout_s: float = Field(default=900, gt=0)
    start_budget_s: float | None = Field(
        default=None, gt=0, description="On a cluster in place of start_timeout_s, by starts that were measured."
    )
    shares_gpus: str | None = Field(
        default=None, description="Engines that say the same name are given the same GPUs. None: GPUs of its own."
    )

    @property
    def driver(self) -> EngineDriver:
        """How this engine is launched, read and spoken to."""
        return driver_of(self.kind, self.mapping)

    @property
    def starts_within_s(self) -> float:
        """How long it may take on a cluster, from its container's start until it is ready."""
        return self.start_timeout_s if self.start_budget_s is None else self.start_budget_s

    @property
    def api_key(self) -> str | None:
        """The key the engine asks its clients for, None when it asks for none."""
        return engine_key(self.driver, self.config.flags, self.env)


class Engine(Value):
    """One engine as observed."""

    spec: EngineSpec
    state: EngineState
    url: str | None = None
    pid: int | None = None
    gpu_indices: tuple[int, ...] = ()
    started_at: AwareDatetime
    ready_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = Field(default=None, description="Since when it is stopped or failed.")
    answers: bool = Field(default=True, description="False: ready once, but it hangs now. It gets no traffic.")
    failure: StartFailure | None = None
    failure_detail: str | None = Field(default=None, description="The telling log lines, never prompt text.")
    log_path: str | None = None
    pod: str | None = Field(default=None, description="On a cluster: the pod it runs in.")
    node: str | None = Field(default=None, description="On a cluster: the node of its pod.")
    waits_for: str | None = Field(default=None, description="On a cluster: what holds up its start.")

    @property
    def takes_traffic(self) -> bool:
        """True when it is ready, its address is known, and it answers."""
        return self.state is EngineState.READY and bool(self.url) and self.answers

    @property
    def startup_s(self) -> float | None:
        """Seconds from process start to readiness, None while unknown."""
        return None if self.ready_at is None else (self.ready_at - self.started_at).total_seconds()
