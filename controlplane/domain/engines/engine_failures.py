"""Why an engine did not start, from its exit and its log. Pure.

Patterns here are the machine's and torch's, which every kind of engine may say; an engine's own stand in its driver.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from controlplane.domain.engines.driver import LogReading
from controlplane.domain.engines.start_failure import StartFailure

_ERROR_LINE = re.compile(r"^([\w.]+(Error|Exception|Interrupt)\b.*|.*\berror: .*|Killed|Segmentation fault.*)$")

_NEVER = re.compile(r"(?!)")
_CHAINED = re.compile(r"^(The above exception was the direct cause|During handling of the above exception)")
_PATTERNS: tuple[tuple[StartFailure, re.Pattern[str]], ...] = tuple(
    (failure, re.compile(pattern, re.IGNORECASE))
    for failure, pattern in (
        (StartFailure.PORT, r"address already in use|\[Errno 98\]|EADDRINUSE"),
        # CUDA, HIP, their drivers, NCCL's `Cuda failure 2 'out of memory'`, vLLM's cumem allocator
        (StartFailure.OUT_OF_MEMORY, r"\bout of memory\b|OutOfMemory|OUT_OF_MEMORY"),
        (StartFailure.OUT_OF_MEMORY, r"cudaErrorMemoryAllocation|(CU|HIP)[A-Z]+_STATUS_ALLOC_FAILED"),
        (StartFailure.OUT_OF_MEMORY, r"rocblas_status_memory_error|MIOPEN.*ALLOC_FAILED"),
        # of the host: Python, C++, torch's CPU allocator, fork
        (StartFailure.OUT_OF_MEMORY, r"^MemoryError\b|std::bad_alloc|DefaultCPUAllocator: (not enough|can't allocate)"),
        (StartFailure.OUT_OF_MEMORY, r"Cannot allocate memory|\[Errno 12\]"),
        (StartFailure.REFUSED_FLAG, r"error: unrecognized arguments|error: argument |error: ambiguous option"),
        (StartFailure.REFUSED_FLAG, r"error: the following arguments are required"),
    )
)


class Diagnosis(NamedTuple):
    failure: StartFailure
    detail: str


class _Cause(NamedTuple):
    failure: StartFailure
    place: int  # of its line


class _Reader(NamedTuple):
    """A driver's way to read a log, compiled."""

    prefix: re.Pattern[str]
    survived: re.Pattern[str]
    consequence: re.Pattern[str]
    free_memory: re.Pattern[str]
    patterns: tuple[tuple[StartFailure, re.Pattern[str]], ...]

    def lines(self, log_tail: str) -> list[str]:
        return [self.prefix.sub("", line) for line in _stripped(log_tail)]

    def known(self, line: str) -> StartFailure | None:
        """Return what a line says by itself, None when it is no known wording."""
        failure = next((failure for failure, pattern in self.patterns if pattern.search(line)), None)
        return StartFailure.OTHER if failure is not None and self._is_taken_by_others(line) else failure

    def _is_taken_by_others(self, line: str) -> bool:
        """Say whether a GPU was short of memory because something else held it: no fault of the configuration's.

        A free H200 reports over 98 % of its memory as free; below 90 % somebody else is on it.
        """
        found = self.free_memory.search(line)
        return found is not None and float(found[1]) < 0.9 * float(found[2])


def diagnose(log_tail: str, log: LogReading, *, exit_code: int | None, was_ready: bool) -> Diagnosis:
    """Return why an engine that is gone went. `exit_code` is None when nobody can tell, -n for signal n.

    The last cause in the log counts: what came before was survived. What only passes an earlier error on (chained
    exceptions, the other processes' complaints) is no cause, nor is what the engine itself calls a warning.
    """
    reader = _reader(log)
    lines, ending = reader.lines(log_tail), _ending(exit_code)
    cause = _last_cause(reader, lines, [reader.survived.match(line) is not None for line in _stripped(log_tail)])
    if was_ready and (cause is None or cause.failure is not StartFailure.OUT_OF_MEMORY):
        return Diagnosis(StartFailure.CRASHED, _join([*_last_errors(lines), f"was ready, then {ending}"]))
    if cause is None:
        return Diagnosis(StartFailure.OTHER, _join([*(_last_errors(lines) or lines[-1:]), ending]))
    return Diagnosis(
        cause.failure, _join([*_telling(lines, cause.place), f"was ready, then {ending}" if was_ready else ending])
    )


def diagnose_timeout(log_tail: str, log: LogReading, *, timeout_s: float) -> Diagnosis:
    """Return what to say about an engine that was not ready in time."""
    lines = _reader(log).lines(log_tail)
    return Diagnosis(StartFailure.TIMEOUT, _join([f"not ready within {timeout_s:g} s; last log line:", *lines[-1:]]))


@cache
def _reader(log: LogReading) -> _Reader:
    own = tuple((each.failure, re.compile(each.pattern, re.IGNORECASE)) for each in log.failures)
    return _Reader(
        prefix=_NEVER if log.prefix is None else re.compile(log.prefix),
        survived=_NEVER if log.survived is None else re.compile(log.survived),
        consequence=_NEVER if log.consequence is None else re.compile(log.consequence, re.IGNORECASE),
        free_memory=_NEVER if log.free_memory_gib is None else re.compile(log.free_memory_gib),
        patterns=(*_PATTERNS, *own),
    )


def _stripped(log_tail: str) -> list[str]:
    return [line.strip() for line in log_tail.splitlines() if line.strip()]


def _last_cause(reader: _Reader, lines: Sequence[str], survived: Sequence[bool]) -> _Cause | None:
    found, chained = None, False
    for place, line in enumerate(lines):
        if survived[place]:
            continue
        known = reader.known(line)
        chained = chained or _CHAINED.match(line) is not None
        if known is not None:
            found = _Cause(known, place)
        elif _ERROR_LINE.match(line):
            if not (chained and found) and not reader.consequence.search(line):
                found = _Cause(StartFailure.OTHER, place)
            chained = False
    return found


def _telling(lines: Sequence[str], place: int) -> Sequence[str]:
    """Return a line and, where it only announces what follows (pydantic does), the next."""
    return lines[place : place + (2 if "validation error" in lines[place] else 1)]


def _last_errors(lines: list[str]) -> list[str]:
    return [line for line in lines if _ERROR_LINE.match(line)][-2:]


def _ending(exit_code: int | None) -> str:
    if exit_code is None:
        return "ended (exit code unknown)"
    said = f"ended with exit code {exit_code}" if exit_code >= 0 else f"killed by signal {-exit_code}"
    # Nobody can tell who killed it, so it says nothing of the configuration yet and is tried again.
    return f"{said} (the kernel does that when the host lacks memory)" if exit_code in (-9, 137) else said


def _join(lines: list[str]) -> str:
    """A few short lines: enough to act on."""
    return "\n".join(line[:400] for line in lines)
