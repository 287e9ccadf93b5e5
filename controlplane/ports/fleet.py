"""Engines on some hardware."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import Engine, EngineSpec


class FleetView(Protocol):
    """The part of a Fleet that only looks."""

    def list(self) -> Sequence[Engine]:
        """Look at every engine not yet forgotten, those adopted from a crashed process included."""

    def free_gpus(self, *, spot: bool | None = None) -> int:
        """GPUs no engine holds: all, or only those that are spot, or on demand. Those under notice are none."""


class Fleet(FleetView, Protocol):
    """Engines on some hardware. Several processes may hold a Fleet on the same hardware at once."""

    def start(self, spec: EngineSpec) -> Engine:
        """Start an engine, or return the one that already has this id (whatever its state).

        One that shares GPUs is given those of the engines it shares them with, then free ones.
        Returns at once, state STARTING. Raises Unavailable when no GPUs are free of the kind it asks for, InvalidInput
        when the spec can never run here.
        """

    def observe(self, engine_id: EngineId) -> Engine:
        """Look at one engine now: a STARTING engine that answers becomes READY; an exited one FAILED with its class.

        Raises NotFound for an id never started or already forgotten.
        """

    def in_flight(self, engine_id: EngineId) -> int | None:
        """Requests running or waiting in the engine by its own metrics; None when it does not say."""

    def stop(self, engine_id: EngineId, *, drain_s: float) -> Engine:
        """Ask an engine to stop: DRAINING until nothing is in flight or `drain_s` is over, then STOPPED.

        Returns at once; call again (or `observe`) to move it on. 0 kills at once. A failed or stopped engine stays so.
        """

    def forget(self, engine_id: EngineId) -> None:
        """Remove the memory of an engine that is STOPPED or FAILED (its log stays). Unknown ids are ignored."""
