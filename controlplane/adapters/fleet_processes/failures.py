"""Why an engine did not start, from its exit and its log. Pure.

Patterns are messages of vLLM 0.26 (argparse, vllm/config, vllm/v1/core/kv_cache_utils.py, vllm/v1/worker) and torch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from controlplane.domain.fleet import StartFailure

_PREFIX = re.compile(r"^(\([\w\s=.-]+\)\s*)?((INFO|WARNING|ERROR|CRITICAL)\s+[\d-]+\s+[\d:.,]+\s+(\[[^\]]*\]\s*)?)?")
_SURVIVED = re.compile(r"^(\([\w\s=.-]+\)\s*)?(DEBUG|INFO|WARN(ING)?)\b")  # `host:12:34 [0] NCCL WARN …` is none
_ERROR_LINE = re.compile(r"^([\w.]+(Error|Exception|Interrupt)\b.*|.*\berror: .*|Killed|Segmentation fault.*)$")

_FREE_MEMORY = re.compile(r"Free memory on device \S+ \(([\d.]+)/([\d.]+) GiB\)")
_CHAINED = re.compile(r"^(The above exception was the direct cause|During handling of the above exception)")
_CONSEQUENCE = re.compile(
    r"Engine core initialization failed|EngineDeadError|EngineGenerateError|See (root cause|stack trace) above"
    r"|Worker\w* (proc|process|initialization|failed)|died unexpectedly|exited unexpectedly|ChildFailedError"
    r"|(NCCL|RCCL) error|nccl\w+Error:|DistBackendError|DistNetworkError"
    r"|Connection (reset|closed|refused|aborted)|ConnectionResetError|Broken ?pipe|EOFError|ZMQError"
    r"|CancelledError|KeyboardInterrupt|SystemExit|cancelled",
    re.IGNORECASE,
)
"""What the other processes of an engine say when one of them has met its end: no cause."""

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
        (StartFailure.OUT_OF_MEMORY, r"No available memory for the cache blocks"),
        (StartFailure.OUT_OF_MEMORY, r"larger than the (maximum number of tokens|available KV cache memory)"),
        (StartFailure.OUT_OF_MEMORY, r"KV cache is needed, which is larger than"),
        (StartFailure.OUT_OF_MEMORY, r"Free memory on device .* is less than desired GPU memory utilization"),
        (StartFailure.REFUSED_FLAG, r"error: unrecognized arguments|error: argument |error: ambiguous option"),
        (StartFailure.REFUSED_FLAG, r"error: the following arguments are required"),
        (StartFailure.REFUSED_FLAG, r"validation errors? for \w*Config"),
        (StartFailure.REFUSED_FLAG, r"must be divisible by tensor parallel size|is not divisible by"),
        (StartFailure.REFUSED_FLAG, r"(unknown|unsupported|invalid) quantization|quantization method .* not supported"),
        (StartFailure.REFUSED_FLAG, r"kv[_-]cache[_-]dtype.* (not supported|invalid|unsupported)"),
        (StartFailure.REFUSED_FLAG, r"max_num_batched_tokens .* (smaller than|greater than or equal to)"),
        (StartFailure.REFUSED_FLAG, r"User-specified max_model_len .* is greater than the derived"),
        (StartFailure.REFUSED_FLAG, r"World size \(\d+\) is larger than the number of available GPUs"),
    )
)


class Diagnosis(NamedTuple):
    failure: StartFailure
    detail: str


class _Cause(NamedTuple):
    failure: StartFailure
    place: int  # of its line


def diagnose(log_tail: str, *, exit_code: int | None, was_ready: bool) -> Diagnosis:
    """Return why an engine that is gone went. `exit_code` is None when nobody can tell, -n for signal n.

    The last cause in the log counts: what came before was survived. What only passes an earlier error on (chained
    exceptions, the other processes' complaints) is no cause, nor is what the engine itself calls a warning.
    """
    raw = [line.strip() for line in log_tail.splitlines() if line.strip()]
    lines = [_PREFIX.sub("", line) for line in raw]
    ending = _ending(exit_code)
    cause = _last_cause(lines, [_SURVIVED.match(line) is not None for line in raw])
    if was_ready and (cause is None or cause.failure is not StartFailure.OUT_OF_MEMORY):
        return Diagnosis(StartFailure.CRASHED, _join([*_last_errors(lines), f"was ready, then {ending}"]))
    if cause is None:
        return Diagnosis(StartFailure.OTHER, _join([*(_last_errors(lines) or lines[-1:]), ending]))
    return Diagnosis(
        cause.failure, _join([*_telling(lines, cause.place), f"was ready, then {ending}" if was_ready else ending])
    )


def diagnose_timeout(log_tail: str, *, timeout_s: float) -> Diagnosis:
    """Return what to say about an engine that was not ready in time."""
    lines = [_PREFIX.sub("", line.strip()) for line in log_tail.splitlines() if line.strip()]
    return Diagnosis(StartFailure.TIMEOUT, _join([f"not ready within {timeout_s:g} s; last log line:", *lines[-1:]]))


def _last_cause(lines: Sequence[str], survived: Sequence[bool]) -> _Cause | None:
    found, chained = None, False
    for place, line in enumerate(lines):
        if survived[place]:
            continue
        known = _known(line)
        chained = chained or _CHAINED.match(line) is not None
        if known is not None:
            found = _Cause(known, place)
        elif _ERROR_LINE.match(line):
            if not (chained and found) and not _CONSEQUENCE.search(line):
                found = _Cause(StartFailure.OTHER, place)
            chained = False
    return found


def _known(line: str) -> StartFailure | None:
    """Return what a line says by itself, None when it is no known wording."""
    failure = next((failure for failure, pattern in _PATTERNS if pattern.search(line)), None)
    return StartFailure.OTHER if failure is not None and _is_taken_by_others(line) else failure


def _is_taken_by_others(line: str) -> bool:
    """Say whether a GPU was short of memory because something else held it: no fault of the configuration's.

    A free H200 reports over 98 % of its memory as free; below 90 % somebody else is on it.
    """
    found = _FREE_MEMORY.search(line)
    return found is not None and float(found[1]) < 0.9 * float(found[2])


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
