"""Looking at engines side by side: each is asked in the background, so that none that hangs holds up the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from controlplane.adapters.engine_counts import in_flight
from controlplane.adapters.fleet_processes.probes import Asking, is_healthy, is_ready
from controlplane.adapters.fleet_processes.records import Record
from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import EngineState

_START_LOOK_S = 2.0
_WAIT_S = 0.1  # for all engines together: what answers at once is known at once


def _nobody_asks() -> None:
    """Tell nobody."""


class Pace(NamedTuple):
    """How often a ready engine's health is asked, how long it may take, and when one that stays silent is given up.

    One that starts is asked every `start_every_s`; `when_looked` is told, in a thread of the look, when it is ready,
    and when it was asked for a while and is not: the next look then begins at once, so it is asked without a pause.
    Two silent checks in a row take an engine out of the routing table; a busy event loop misses one at most.
    """

    every_s: float = 2.0
    timeout_s: float = 5.0
    hung_s: float = 60.0
    start_every_s: float = 0.2
    when_looked: Callable[[], None] = _nobody_asks


class Look(NamedTuple):
    """What one engine said. `well` is None while there is no news."""

    well: bool | None = None
    idle: bool = False


def look(record: Record, pace: Pace) -> Look:
    """Ask one engine what its state calls for; waits until it says something or has had its time."""
    driver = record.spec.driver
    health = f"{record.url}{driver.readiness.health_path}"
    match record.state:
        case EngineState.STARTING:
            return Look(well=_has_started(record, pace))
        case EngineState.READY:
            return Look(well=is_healthy(health, timeout_s=pace.timeout_s))
        case EngineState.DRAINING:
            flight = in_flight(record.url, driver.metrics)
            return Look(well=flight is not None or is_healthy(health, timeout_s=pace.timeout_s), idle=flight == 0)
        case EngineState.FAILED | EngineState.STOPPED:
            return Look()


def _has_started(record: Record, pace: Pace) -> bool:
    """Ask an engine for a while whether it is ready, and tell as soon as it is, or that the while is over."""
    spec, until_s = record.spec, time.monotonic() + _START_LOOK_S
    while not (ready := is_ready(record.url, spec.served_name, spec.api_key, spec.driver.readiness)):
        if time.monotonic() + pace.start_every_s > until_s:
            break
        time.sleep(pace.start_every_s)
    pace.when_looked()
    return ready


class Looks:
    """One question at a time per engine. Engines that answered are asked again when it is time.

    Threads may take looks side by side: they wait for the same answer, and whoever has it first puts the question away.
    """

    def __init__(self, pace: Pace, *, ask: Callable[[Record, Pace], Look] = look) -> None:
        self._pace = pace
        self._question = ask
        self._asked: dict[EngineId, Asking[Look]] = {}
        self._due_s: dict[EngineId, float] = {}

    def take(self, records: Sequence[Record]) -> dict[EngineId, Look]:
        """Ask every engine that is to be asked, wait a moment for all of them together, return what they said."""
        for record in records:
            self._ask(record)
        until_s = time.monotonic() + _WAIT_S
        return {record.spec.engine_id: self._answer(record, until_s) for record in records}

    def forget(self, engine_id: EngineId) -> None:
        self._asked.pop(engine_id, None)
        self._due_s.pop(engine_id, None)

    def _ask(self, record: Record) -> None:
        engine_id = record.spec.engine_id
        if engine_id not in self._asked and time.monotonic() >= self._due_s.get(engine_id, 0.0):
            self._asked[engine_id] = Asking(lambda: self._question(record, self._pace))

    def _answer(self, record: Record, until_s: float) -> Look:
        engine_id = record.spec.engine_id
        asked = self._asked.get(engine_id)
        if asked is None:
            return Look()
        found = asked.answer(max(0.0, until_s - time.monotonic()))
        first = asked.is_over and self._asked.pop(engine_id, None) is not None
        if first and record.state is EngineState.READY:
            self._due_s[engine_id] = time.monotonic() + self._pace.every_s
        if first and record.state is EngineState.STARTING and found is not None and not found.well:
            self._ask(record)
        return found or Look()
