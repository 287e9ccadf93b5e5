"""What a fleet of processes remembers: one folder per engine, changed only under one lock of the state directory."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from pydantic import AwareDatetime, ValidationError

from controlplane.domain.base import EngineId, Value
from controlplane.domain.engines.fleet import Engine, EngineSpec, EngineState
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.errors import InvalidInput, Unavailable
from controlplane.domain.process import ProcessId
from controlplane.host.files import write_whole

_LOG_TAIL_BYTES = 256 * 1024


class Record(Value):
    """One engine. Written before it is spawned (`process` None), so that a crash at any instant can be repaired."""

    spec: EngineSpec
    host: str
    port: int
    gpu_indices: tuple[int, ...]
    started_at: AwareDatetime
    process: ProcessId | None = None
    ready_at: AwareDatetime | None = None
    drain_until: AwareDatetime | None = None  # set: somebody asked it to stop
    terminated_at: AwareDatetime | None = None  # SIGTERM was sent
    failure: StartFailure | None = None
    failure_detail: str | None = None
    silent_since: AwareDatetime | None = None  # the first of the health checks it did not answer
    answers: bool = True
    ended_at: AwareDatetime | None = None  # set: no process of it is left, its GPUs are free

    @property
    def state(self) -> EngineState:
        if self.ended_at is not None:
            return EngineState.FAILED if self.failure is not None else EngineState.STOPPED
        if self.drain_until is not None:
            return EngineState.DRAINING
        return EngineState.STARTING if self.ready_at is None else EngineState.READY

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def engine(self, log: Path) -> Engine:
        """Return the engine as the port shows it."""
        return Engine(
            spec=self.spec,
            state=self.state,
            url=self.url,
            pid=None if self.process is None else self.process.pid,
            gpu_indices=self.gpu_indices,
            started_at=self.started_at,
            ready_at=self.ready_at,
            ended_at=self.ended_at,
            answers=self.answers,
            failure=self.failure if self.ended_at is not None else None,
            failure_detail=self.failure_detail if self.ended_at is not None else None,
            log_path=str(log),
        )

    def drained_by(self, deadline: datetime) -> Record:
        """Return the record of an engine asked to stop by `deadline`; an earlier deadline stays."""
        return self.evolve(drain_until=deadline if self.drain_until is None else min(self.drain_until, deadline))


class RecordFolder:
    """`<root>/engines/<id>/record.json`, `<root>/logs/<id>.log`, `<root>/lock`. Readable by the owner only.

    Raises InvalidInput when the directory cannot be made or written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        try:
            for folder in (self.root, self.root / "engines", self.root / "logs"):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self.locked():
                pass
        except OSError as error:
            raise InvalidInput(f"cannot keep engines in {root}", why=error.strerror or str(error)) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory's lock. The kernel lets go of it when the holder dies."""
        lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def mark(self, engine_id: EngineId) -> str:
        """Return what tells this engine's processes from all others on the host."""
        return f"{self.root}#{engine_id}"

    def log(self, engine_id: EngineId) -> Path:
        return self.root / "logs" / f"{engine_id}.log"

    def log_tail(self, engine_id: EngineId) -> str:
        """Return the end of an engine's log; nothing where it cannot be read."""
        try:
            with self.log(engine_id).open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
                return log.read().decode(errors="replace")
        except OSError:
            return ""

    def read(self, engine_id: EngineId) -> Record | None:
        """Return what is remembered of an engine. Raises Unavailable when the file is damaged."""
        path = self._path(engine_id)
        try:
            return Record.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise Unavailable(f"{path} is damaged", why=f"{error.error_count()} fields are wrong") from error

    def read_all(self) -> list[Record]:
        """Return every remembered engine, oldest first."""
        names = sorted(path.name for path in (self.root / "engines").iterdir())
        found = [record for name in names if (record := self.read(EngineId(name))) is not None]
        return sorted(found, key=lambda record: record.started_at)

    def alive(self) -> Sequence[Record]:
        """Return those of engines that may still have a process."""
        return [record for record in self.read_all() if record.ended_at is None]

    def write(self, record: Record) -> None:
        """Remember a record, whole or not at all."""
        path = self._path(record.spec.engine_id)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_whole(path, record.model_dump_json())

    def remove(self, engine_id: EngineId) -> None:
        """Forget an engine; its log stays."""
        self._path(engine_id).unlink(missing_ok=True)
        shutil.rmtree(self._path(engine_id).parent, ignore_errors=True)

    def _path(self, engine_id: EngineId) -> Path:
        return self.root / "engines" / engine_id / "record.json"
