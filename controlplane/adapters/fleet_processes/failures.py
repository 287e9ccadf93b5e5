"""Why an engine did not start, from its exit and its log. Pure.

Patterns are messages of vLLM 0.26 (argparse, vllm/config, vllm/v1/core/kv_cache_utils.py, vllm/v1/worker) and torch.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from controlplane.domain.fleet import StartFailure

_PREFIX = re.compile(r"^(\([\w\s=.-]+\)\s*)?((INFO|WARNING|ERROR|CRITICAL)\s+[\d-]+\s+[\d:.,]+\s+(\[[^\]]*\]\s*)?)?")
_ERROR_LINE = re.compile(r"^([\w.]+(Error|Exception|Interrupt)\b.*|.*\berror: .*|Killed|Segmentation fault.*)$")

_WARNING = re.compile(r"^(\([\w\s=.-]+\)\s*)?(WARNING|WARN)\b")

_FREE_MEMORY = re.compile(r"Free memory on device \S+ \(([\d.]+)/([\d.]+) GiB\)")

_PATTERNS: tuple[tuple[StartFailure, re.Pattern[str]], ...] = tuple(
    (failure, re.compile(pattern, re.IGNORECASE))
    for failure, pattern in (
        (StartFailure.PORT, r"address already in use|\[Errno 98\]|EADDRINUSE"),
        (StartFailure.OUT_OF_MEMORY, r"CUDA out of memory|OutOfMemoryError|CUDA error: out of memory"),
        (
            StartFailure.OUT_OF_MEMORY,
            r"(CUDA driver error|CUDA failure|Cuda failure \d+|CUDA_ERROR|HIP)\W+.*out.of.memory",
        ),
        (StartFailure.OUT_OF_MEMORY, r"CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|hipErrorOutOfMemory"),
        (StartFailure.OUT_OF_MEMORY, r"CUBLAS_STATUS_ALLOC_FAILED|HIPBLAS_STATUS_ALLOC_FAILED"),
        (StartFailure.OUT_OF_MEMORY, r"^MemoryError|std::bad_alloc|Cannot allocate memory|can't allocate memory"),
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


def diagnose(log_tail: str, *, exit_code: int | None, was_ready: bool) -> Diagnosis:
    """Return why an engine that is gone went. `exit_code` is None when nobody can tell, -n for signal n."""
    told = [line.strip() for line in log_tail.splitlines() if line.strip()]
    lines = [_PREFIX.sub("", line) for line in told if not _WARNING.match(line)]  # a warning was survived
    ending, cause = _ending(exit_code), _last_cause(lines)
    if was_ready and (cause is None or cause[0] is not StartFailure.OUT_OF_MEMORY):
        return Diagnosis(StartFailure.CRASHED, _join([*_last_errors(lines), f"was ready, then {ending}"]))
    if cause is None:
        return Diagnosis(StartFailure.OTHER, _join([*(_last_errors(lines) or lines[-1:]), ending]))
    failure, place = cause
    kind = StartFailure.OTHER if _is_taken_by_others(lines[place]) else failure
    return Diagnosis(kind, _join([*_telling(lines, place), f"was ready, then {ending}" if was_ready else ending]))


def diagnose_timeout(log_tail: str, *, timeout_s: float) -> Diagnosis:
    """Return what to say about an engine that was not ready in time."""
    lines = [_PREFIX.sub("", line.strip()) for line in log_tail.splitlines() if line.strip()]
    return Diagnosis(StartFailure.TIMEOUT, _join([f"not ready within {timeout_s:g} s; last log line:", *lines[-1:]]))


def _last_cause(lines: list[str]) -> tuple[StartFailure, int] | None:
    """Return the last known cause and its line: what came before it did not end the engine."""
    for place in range(len(lines) - 1, -1, -1):
        for failure, pattern in _PATTERNS:
            if pattern.search(lines[place]):
                return failure, place
    return None


def _is_taken_by_others(line: str) -> bool:
    """Say whether a GPU was short of memory because something else held it: no fault of the configuration's.

    A free H200 reports over 98 % of its memory as free; below 90 % somebody else is on it.
    """
    found = _FREE_MEMORY.search(line)
    return found is not None and float(found[1]) < 0.9 * float(found[2])


def _telling(lines: list[str], place: int) -> list[str]:
    """Return a line and, where it only announces what follows (pydantic does), the next."""
    return lines[place : place + (2 if "validation error" in lines[place] else 1)]


def _last_errors(lines: list[str]) -> list[str]:
    return [line for line in lines if _ERROR_LINE.match(line)][-2:]


def _ending(exit_code: int | None) -> str:
    if exit_code is None:
        return "ended (exit code unknown)"
    return f"ended with exit code {exit_code}" if exit_code >= 0 else f"killed by signal {-exit_code}"


def _join(lines: list[str]) -> str:
    """A few short lines: enough to act on."""
    return "\n".join(line[:400] for line in lines)
