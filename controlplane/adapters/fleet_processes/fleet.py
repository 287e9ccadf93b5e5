"""Engines as child processes of one host, whatever their kind, by the same code path.

Any number of processes may hold a `FleetProcesses` on the same state directory. Whatever changes is written there under
one lock *before* it is done: an engine's record names its GPUs and port before it is spawned, and every later look at
the directory, by whoever, moves each engine on by one step. So a crash at any instant leaves nothing to clean up by
hand: an engine spawned but not recorded is found by the mark in its environment, one recorded but not spawned is
spawned, and GPUs are free only when no process of the engine is left.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from controlplane.adapters.engine_counts import in_flight
from controlplane.adapters.fleet_processes import host as host_processes
from controlplane.adapters.fleet_processes.commands import command_line, environment
from controlplane.adapters.fleet_processes.devices import HostGpus, host_gpus
from controlplane.adapters.fleet_processes.looks import Look, Looks, Pace
from controlplane.adapters.fleet_processes.records import Record, RecordFolder
from controlplane.domain.base import EngineId
from controlplane.domain.engines.engine_failures import diagnose, diagnose_timeout
from controlplane.domain.engines.fleet import Engine, EngineSpec, EngineState
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.errors import Conflict, InvalidInput, NotFound, Unavailable
from controlplane.host.clock import utc_now
from controlplane.host.ports import free_port
from controlplane.host.processes import is_alive
from controlplane.ports import Clock

_KILL_WAIT_S = 1.0


class FleetProcesses:
    """The Fleet port on one host. `gpus` is how many there are, or which (`nvidia_gpus` finds them); `term_grace_s` how
    long an engine may take to exit after SIGTERM before it is killed. Raises InvalidInput: a folder of no use.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        gpus: int | Sequence[int] | HostGpus,
        host: str = "127.0.0.1",
        base_env: Mapping[str, str] | None = None,
        clock: Clock = utc_now,
        term_grace_s: float = 15.0,
        pace: Pace = Pace(),  # noqa: B008 - immutable
    ) -> None:
        self._folder = RecordFolder(state_dir)
        self._gpus = host_gpus(gpus)
        self._host = host
        self._base_env = os.environ if base_env is None else base_env
        self._clock = clock
        self._term_grace = timedelta(seconds=term_grace_s)
        self._pace = pace
        self._looks = Looks(pace)

    def start(self, spec: EngineSpec) -> Engine:
        """Start an engine, or return the one that already has this id."""
        self._check(spec)
        with self._folder.locked():
            record = self._folder.read(spec.engine_id)
            if record is None:
                return self._shown(self._spawned(self._intend(spec)))
        return self.observe(spec.engine_id)

    def observe(self, engine_id: EngineId) -> Engine:
        """Look at one engine now and move it on by a step."""
        seen = self._seen([self._read(engine_id)])
        if not seen:
            raise NotFound(f"no engine {engine_id}")
        return seen[0]

    def list(self) -> Sequence[Engine]:
        """Look at every engine not yet forgotten, oldest first: all at once, whatever hangs."""
        with self._folder.locked():
            known = self._folder.read_all()
        return self._seen(known)

    def _seen(self, records: Sequence[Record]) -> Sequence[Engine]:
        looks = self._looks.take([record for record in records if not record.state.is_over and record.process])
        seen = (self._moved_on(record, looks.get(record.spec.engine_id, Look())) for record in records)
        return [engine for engine in seen if engine is not None]

    def _moved_on(self, record: Record, look: Look) -> Engine | None:
        if record.state.is_over:
            if record.process is not None:
                host_processes.exit_code(record.process)  # another process saw it end; only its parent can reap it
            return self._shown(record)
        with self._folder.locked():
            present = self._folder.read(record.spec.engine_id)
            # None: forgotten by another process since
            return None if present is None else self._shown(self._stepped(present, look))

    def in_flight(self, engine_id: EngineId) -> int | None:
        """Requests running or waiting in the engine by its own metrics; None when it does not say."""
        record = self._read(engine_id)
        if record.ready_at is None or record.ended_at is not None:
            return None
        return in_flight(record.url, record.spec.driver.metrics)

    def stop(self, engine_id: EngineId, *, drain_s: float) -> Engine:
        """Ask an engine to stop, at the latest `drain_s` from now."""
        with self._folder.locked():
            record = self._read(engine_id)
            if not record.state.is_over:
                self._folder.write(record.drained_by(self._clock() + timedelta(seconds=drain_s)))
        return self.observe(engine_id)

    def forget(self, engine_id: EngineId) -> None:
        """Remove the memory of an engine that ended. Raises Conflict while it lives."""
        with self._folder.locked():
            record = self._folder.read(engine_id)
            if record is None:
                return
            if not record.state.is_over:
                raise Conflict(f"engine {engine_id} is {record.state}", allowed="forget it when stopped or failed")
            self._folder.remove(engine_id)
        self._looks.forget(engine_id)

    def free_gpus(self, *, spot: bool | None = None) -> int:
        """GPUs no engine holds, of a kind or of both; none of those under notice."""
        with self._folder.locked():
            return len(self._unheld(spot))

    def _check(self, spec: EngineSpec) -> None:
        if not re.fullmatch(r"[a-z0-9-]+", spec.engine_id):
            raise InvalidInput(f"engine id {spec.engine_id!r}", allowed="a-z, 0-9 and -")
        self._gpus.require(spec.gpus, spot=spec.spot)
        if spec.config.gpus_per_replica > spec.gpus:
            why = f"its flags ask for {spec.config.gpus_per_replica}"
            raise InvalidInput(f"engine {spec.engine_id} is given {spec.gpus} GPUs", why=why)
        command_line(spec, host=self._host, port=0)

    def _read(self, engine_id: EngineId) -> Record:
        record = self._folder.read(engine_id)
        if record is None:
            raise NotFound(f"no engine {engine_id}")
        return record

    def _shown(self, record: Record) -> Engine:
        return record.engine(self._folder.log(record.spec.engine_id))

    def _free(self, spec: EngineSpec) -> Sequence[int]:
        """GPUs for a new engine: those of the engines with which it shares its own, then those no engine holds."""
        shared = spec.shares_gpus
        mates = {gpu for e in self._folder.alive() if shared and e.spec.shares_gpus == shared for gpu in e.gpu_indices}
        return [*sorted(mates), *self._unheld(spec.spot)]

    def _unheld(self, spot: bool | None) -> Sequence[int]:
        return self._gpus.free(spot, held={gpu for record in self._folder.alive() for gpu in record.gpu_indices})

    def _intend(self, spec: EngineSpec) -> Record:
        """Write down what is about to be started. From here on the engine exists, whatever happens to this process."""
        free = self._free(spec)
        if len(free) < spec.gpus:
            why = f"{len(free)} of {len(self._gpus.of_kind(spec.spot))} are free"
            raise Unavailable(f"no {spec.gpus} GPUs for engine {spec.engine_id}", why=why)
        taken = {record.port for record in self._folder.alive()}
        record = Record(
            spec=spec,
            host=self._host,
            port=free_port(self._host, taken=taken),
            gpu_indices=tuple(free[: spec.gpus]),
            started_at=self._clock(),
        )
        self._folder.write(record)
        return record

    def _spawned(self, record: Record) -> Record:
        """Make an intended engine run: find the process a crashed caller started, else start it now."""
        mark = self._folder.mark(record.spec.engine_id)
        process = host_processes.find_leader(mark)
        if process is None:
            try:
                command = command_line(record.spec, host=record.host, port=record.port)
                env = environment(record.spec, base=self._base_env, gpu_indices=record.gpu_indices, mark=mark)
                process = host_processes.spawn(command, env, self._folder.log(record.spec.engine_id))
            except (OSError, InvalidInput) as error:
                return self._keep(record, failure=StartFailure.OTHER, failure_detail=str(error), ended_at=self._clock())
            return self._keep(record, process=process, started_at=self._clock())
        return self._keep(record, process=process)

    def _stepped(self, record: Record, look: Look) -> Record:
        """Move an engine on by one step. Called under the lock, with what was seen just before."""
        if record.process is None and record.drain_until is None and not record.state.is_over:
            return self._spawned(record)
        record = record if record.process is not None else self._adopted(record)
        gone = record.process is None or not is_alive(record.process)
        if gone and not record.state.is_over:
            return self._ended_if_gone(record)
        match record.state:
            case EngineState.STARTING:
                return self._started(record, ready=look.well is True)
            case EngineState.DRAINING:
                return self._drained(self._heard(record, look), idle=look.idle)
            case EngineState.READY:
                return self._kept_well(self._heard(record, look))
            case EngineState.FAILED | EngineState.STOPPED:
                return record

    def _heard(self, record: Record, look: Look) -> Record:
        """Remember since when an engine says nothing; it counts as not answering from the second silent check on."""
        match look.well:
            case None:
                return record
            case True:
                said: dict[str, object] = {"silent_since": None, "answers": True}
            case False:
                said = {"silent_since": record.silent_since or self._clock(), "answers": record.silent_since is None}
        changed = any(getattr(record, name) != value for name, value in said.items())
        return self._keep(record, **said) if changed else record

    def _kept_well(self, record: Record) -> Record:
        """Give up an engine that has been silent too long: it would hold its GPUs and its place for ever."""
        if record.failure is None and not self._is_hung(record):
            return record
        if record.failure is None:
            detail = f"hangs: no answer to its health checks for {self._pace.hung_s:g} s"
            record = self._keep(record, failure=StartFailure.CRASHED, failure_detail=detail)
        return self._ended_by_force(record)

    def _is_hung(self, record: Record) -> bool:
        since = record.silent_since
        return since is not None and (self._clock() - since).total_seconds() >= self._pace.hung_s

    def _adopted(self, record: Record) -> Record:
        process = host_processes.find_leader(self._folder.mark(record.spec.engine_id))
        return record if process is None else self._keep(record, process=process)

    def _started(self, record: Record, *, ready: bool) -> Record:
        if record.failure is not None:
            return self._ended_by_force(record)
        if ready:
            return self._keep(record, ready_at=self._clock())
        timeout_s = record.spec.start_timeout_s
        if self._clock() - record.started_at < timedelta(seconds=timeout_s):
            return record
        diagnosis = diagnose_timeout(
            self._folder.log_tail(record.spec.engine_id), record.spec.driver.log, timeout_s=timeout_s
        )
        return self._ended_by_force(self._keep(record, failure=diagnosis.failure, failure_detail=diagnosis.detail))

    def _drained(self, record: Record, *, idle: bool) -> Record:
        """SIGTERM once nothing is in flight; SIGKILL at the deadline, or when SIGTERM did not help."""
        now = self._clock()
        if (record.drain_until is not None and now >= record.drain_until) or self._is_hung(record):
            return self._ended_by_force(record)
        if record.terminated_at is None:
            if not idle and record.ready_at is not None:
                return record
            if record.process is not None:
                host_processes.send([record.process.pid], signal.SIGTERM)
            return self._keep(record, terminated_at=now)
        return self._ended_by_force(record) if now - record.terminated_at > self._term_grace else record

    def _ended_by_force(self, record: Record) -> Record:
        """Kill every process of an engine and wait a moment for them to be gone; else the next step looks again."""
        if not self._kill_members(record):
            return record
        return self._ended_if_gone(record)

    def _ended_if_gone(self, record: Record) -> Record:
        """Write down how an engine ended, once no process of it is left."""
        if not self._kill_members(record):
            return record
        exit_code = None if record.process is None else host_processes.exit_code(record.process)
        ended: dict[str, object] = {"ended_at": self._clock()}
        if record.failure is None and record.drain_until is None:
            log = record.spec.driver.log
            diagnosis = diagnose(
                self._folder.log_tail(record.spec.engine_id),
                log,
                exit_code=exit_code,
                was_ready=record.ready_at is not None,
            )
            ended |= {"failure": diagnosis.failure, "failure_detail": diagnosis.detail}
        return self._keep(record, **ended)

    def _kill_members(self, record: Record) -> bool:
        """Return whether no process of the engine is left."""
        mark = self._folder.mark(record.spec.engine_id)
        give_up_s = time.monotonic() + _KILL_WAIT_S
        while pids := host_processes.members(mark, record.process):
            host_processes.send(pids, signal.SIGKILL)
            if time.monotonic() > give_up_s:
                return False
            time.sleep(0.01)
        return True

    def _keep(self, record: Record, **changes: object) -> Record:
        changed = record.evolve(**changes)
        self._folder.write(changed)
        return changed
