"""Runs the processes of one installation: starts them, starts again what died, and stops all in order."""

from __future__ import annotations

import ctypes
import json
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from controlplane.host.clock import since_boot_s
from controlplane.host.files import write_whole
from controlplane.host.passes import DYING, PROCESSES
from controlplane.host.processes import this_process

PR_SET_PDEATHSIG = 1
POLL_S = 0.2
STABLE_AFTER_S = 30.0
LONGEST_BACKOFF_S = 10.0


@dataclass(frozen=True)
class Program:
    """One process to keep running. `stop_s` is how long it may take to finish after SIGTERM."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    stop_s: float = 10.0


@dataclass
class _Child:
    program: Program
    process: subprocess.Popen[bytes]
    started: float
    quick_deaths: int = 0
    restarts: int = 0
    dying_since_s: float | None = None  # since boot: the first start of those that it did not outlive


@dataclass
class Supervisor:
    """Keeps `programs` alive until `stop`. Children get SIGTERM should this process be killed; engines do not."""

    programs: Sequence[Program]
    data_dir: Path
    say: Callable[[str], None]
    stable_after_s: float = STABLE_AFTER_S
    _children: dict[str, _Child] = field(default_factory=dict)
    _waiting: dict[str, float] = field(default_factory=dict)

    def start(self) -> None:
        """Start every program. Log files lie in `data_dir`/logs/<name>.log."""
        (self.data_dir / "logs").mkdir(parents=True, exist_ok=True)
        for program in self.programs:
            self._children[program.name] = _Child(program, self._spawn(program), time.monotonic())
        self._write_status()

    def run_until(self, stopped: Callable[[], bool]) -> None:
        """Watch the children until `stopped()`; a dead one is started again, later each time if it dies at once."""
        while not stopped():
            self.check()
            time.sleep(POLL_S)

    def check(self) -> None:
        """Look at every child once."""
        for name, child in self._children.items():
            if child.process.poll() is None:
                self._note_life(child)
                continue
            if name not in self._waiting:
                self._note_death(child)
            elif time.monotonic() >= self._waiting[name]:
                self._restart(child)

    def stop(self) -> None:
        """Ask the children to stop in reverse order of their start; kill what does not."""
        for child in reversed(self._children.values()):
            if child.process.poll() is None:
                child.process.terminate()
        for child in reversed(self._children.values()):
            self._await_end(child)
        (self.data_dir / PROCESSES).unlink(missing_ok=True)

    def _await_end(self, child: _Child) -> None:
        try:
            child.process.wait(child.program.stop_s)
        except subprocess.TimeoutExpired:
            self.say(f"{child.program.name} did not stop within {child.program.stop_s:g} s: killed")
            child.process.kill()
            child.process.wait()

    def _note_life(self, child: _Child) -> None:
        if child.dying_since_s is not None and time.monotonic() - child.started >= self.stable_after_s:
            child.dying_since_s = None
            self._write_status()

    def _note_death(self, child: _Child) -> None:
        lived_s = time.monotonic() - child.started
        quick = lived_s < self.stable_after_s
        since_s = since_boot_s() - lived_s if child.dying_since_s is None else child.dying_since_s
        child.dying_since_s = since_s if quick else None
        child.quick_deaths = child.quick_deaths + 1 if quick else 0
        delay = min(LONGEST_BACKOFF_S, 0.1 * 2**child.quick_deaths)
        self._waiting[child.program.name] = time.monotonic() + delay
        code = child.process.returncode
        self.say(f"{child.program.name} ended ({_describe(code)}); starting it again in {delay:.1f} s")

    def _restart(self, child: _Child) -> None:
        del self._waiting[child.program.name]
        child.process, child.started = self._spawn(child.program), time.monotonic()
        child.restarts += 1
        self._write_status()

    def _spawn(self, program: Program) -> subprocess.Popen[bytes]:
        with self._log(program.name) as log:
            return subprocess.Popen(
                list(program.command),
                env=dict(program.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - the supervisor has one thread
                process_group=0,  # Ctrl-C in the terminal reaches the supervisor only, which stops in order
            )

    def _log(self, name: str) -> IO[bytes]:
        return (self.data_dir / "logs" / f"{name}.log").open("ab")

    def _write_status(self) -> None:
        status: dict[str, dict[str, int | str | float]] = {"supervisor": this_process().model_dump()}
        for name, child in self._children.items():
            status[name] = {"pid": child.process.pid, "restarts": child.restarts}
            if child.dying_since_s is not None:
                status[name] |= {DYING: child.dying_since_s}
        write_whole(self.data_dir / PROCESSES, json.dumps(status, indent=1))


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _describe(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"
