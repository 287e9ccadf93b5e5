"""What is sent and when, worked out before the first request leaves: same seed, same schedule, byte for byte."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from controlplane.domain.workload import ArrivalProcess, Lengths, SyntheticWorkload, TracePart, TraceWorkload, Workload
from loadtests.send.arrivals import RateShape, arrival_times, check_rate
from loadtests.send.cutting import cut_rows
from loadtests.send.traces import Trace, load_trace

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_FEWEST_ROWS = 200  # of a part; below, a trace is not cut
_ARRIVALS, _LENGTHS, _START = range(3)  # independent streams of chance


@dataclass(frozen=True, eq=False)
class Schedule:
    """n requests in order of their instants. Everything the generator needs but the text.

    A prompt of request i is the first `prefix_tokens[i]` tokens of stream `prefix_group[i]` (shared with every request
    of that group), then blocks by id, then tokens of its own up to `prompt_tokens[i]`.
    """

    scheduled_s: Floats  # (n,) seconds from the start
    prompt_tokens: Ints  # (n,)
    output_tokens: Ints  # (n,)
    prefix_group: Ints  # (n,) -1: nothing shared
    prefix_tokens: Ints  # (n,)
    session: Ints  # (n,) -1: none
    priority: Ints  # (n,) vLLM's: lower is sooner
    cancel_after: Ints  # (n,) token events after which the client hangs up, 0: never
    block_starts: Ints  # (n + 1,) request i has block_ids[block_starts[i]:block_starts[i + 1]]
    block_ids: Ints
    block_tokens: Floats  # (1,) tokens per block; not whole where blocks were cut from text

    def __len__(self) -> int:
        return len(self.scheduled_s)

    def save(self, path: Path) -> None:
        """Write all arrays into one .npz file (the same bytes for the same schedule)."""
        with path.open("wb") as file:
            np.savez(file, **{each.name: getattr(self, each.name) for each in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Schedule:
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{each.name: arrays[each.name] for each in fields(cls)})

    def digest(self) -> str:
        """SHA-256 over every array: equal digests are equal schedules."""
        digest = hashlib.sha256()
        for each in fields(self):
            digest.update(np.ascontiguousarray(getattr(self, each.name)).tobytes())
        return digest.hexdigest()


def build_schedule(
    workload: Workload, *, rate_rps: float, duration_s: float, seed: int, shape: RateShape | None = None
) -> Schedule:
    """Return the schedule of one run at `rate_rps` over [0, duration_s).

    Trace workloads take lengths from the trace's rows: with the trace's own arrivals, consecutive rows from a seeded
    start (so bursts and their lengths stay together), their times stretched to the wanted rate; with any other
    process, rows in a seeded shuffle. Raises InvalidInput for an unusable trace, rate or duration.
    """
    check_rate(rate_rps, duration_s)
    match workload:
        case TraceWorkload():
            return _from_trace(workload, rate_rps=rate_rps, duration_s=duration_s, seed=seed, shape=shape)
        case SyntheticWorkload():
            return _synthetic(workload, rate_rps=rate_rps, duration_s=duration_s, seed=seed, shape=shape)


def _from_trace(
    workload: TraceWorkload, *, rate_rps: float, duration_s: float, seed: int, shape: RateShape | None
) -> Schedule:
    whole = load_trace(workload.trace)
    cut_rows(workload, whole).check(workload)
    trace = part_of(whole, workload.part)
    seeds = (workload.seed, seed)
    if workload.arrivals.process is ArrivalProcess.TRACE:
        count = max(1, round(rate_rps * duration_s))
        rows, times = _window(trace, count, duration_s, rng_of(*seeds, _START))
    else:
        rng = rng_of(*seeds, _ARRIVALS)
        times = arrival_times(workload.arrivals, rate_rps=rate_rps, duration_s=duration_s, rng=rng, shape=shape)
        rows = _shuffled(len(trace), len(times), rng_of(*seeds, _LENGTHS))
    prompt_tokens = np.minimum(trace.prompt_tokens[rows], workload.max_prompt_tokens)
    output_tokens = np.minimum(trace.output_tokens[rows], workload.max_output_tokens)
    block_tokens = np.array([0 if trace.blocks is None else trace.block_tokens], dtype=np.float64)
    shared = _shared_of(trace, rows)
    return replace(assemble(times, prompt_tokens, output_tokens, **shared), block_tokens=block_tokens)


def part_of(trace: Trace, part: TracePart) -> Trace:
    """Return the rows of a part, their times from 0. A trace too short to be cut is used whole."""
    cut = len(trace) * 3 // 4
    if part is TracePart.ALL or len(trace) - cut < _FEWEST_ROWS:
        return trace
    rows = slice(0, cut) if part is TracePart.SEARCH else slice(cut, None)
    arrival_s = trace.arrival_s[rows]
    return replace(
        trace,
        arrival_s=arrival_s - arrival_s[0],
        prompt_tokens=trace.prompt_tokens[rows],
        output_tokens=trace.output_tokens[rows],
        session=None if trace.session is None else trace.session[rows],
        blocks=None if trace.blocks is None else trace.blocks[rows],
    )


def _window(trace: Trace, count: int, duration_s: float, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """Take `count` consecutive rows from a seeded start, wrapping around, stretched to exactly `duration_s`."""
    n = len(trace)
    start = 0 if count >= n else int(rng.integers(n))
    positions = np.arange(start, start + count + 1)
    lap_s = trace.duration_s + (1 / trace.rate_rps if trace.rate_rps else 1.0)
    instants = trace.arrival_s[positions % n] + lap_s * (positions // n)
    span = float(instants[-1] - instants[0]) or 1.0
    times = (instants[:-1] - instants[0]) * (duration_s / span)
    return positions[:-1] % n, np.minimum(times, np.nextafter(duration_s, 0))


def _shuffled(n: int, count: int, rng: np.random.Generator) -> Ints:
    rows: Ints = np.empty(0, dtype=np.int64)
    while len(rows) < count:
        rows = np.concatenate((rows, rng.permutation(n)))
    return rows[:count]


def _shared_of(trace: Trace, rows: Ints) -> dict[str, Ints]:
    """What the trace knows of sharing: prompt blocks by id, or else sessions whose prompts grow out of each other."""
    shared: dict[str, Ints] = {}
    if trace.session is not None:
        shared["session"] = shared["prefix_group"] = trace.session[rows]
        shared["prefix_tokens"] = np.where(trace.session[rows] >= 0, trace.prompt_tokens[rows], 0)
    if trace.blocks is not None:
        ids = [trace.blocks[row] for row in rows]
        shared["prefix_tokens"] = np.zeros(len(rows), dtype=np.int64)
        shared["block_starts"] = np.concatenate(([0], np.cumsum([len(each) for each in ids]))).astype(np.int64)
        shared["block_ids"] = np.array([block for each in ids for block in each], dtype=np.int64)
    return shared


def _synthetic(
    workload: SyntheticWorkload, *, rate_rps: float, duration_s: float, seed: int, shape: RateShape | None
) -> Schedule:
    rng = rng_of(workload.seed, seed, _ARRIVALS)
    times = arrival_times(workload.arrivals, rate_rps=rate_rps, duration_s=duration_s, rng=rng, shape=shape)
    lengths = rng_of(workload.seed, seed, _LENGTHS)
    prompt_tokens = draw_lengths(workload.prompt_tokens, len(times), lengths)
    output_tokens = draw_lengths(workload.output_tokens, len(times), lengths)
    prefix_tokens = np.floor(prompt_tokens * workload.shared_prefix_share).astype(np.int64)
    return assemble(
        times,
        prompt_tokens,
        output_tokens,
        prefix_tokens=prefix_tokens,
        prefix_group=np.where(prefix_tokens > 0, 0, -1).astype(np.int64),
    )


def draw_lengths(lengths: Lengths, count: int, rng: np.random.Generator) -> Ints:
    """Draw lognormal token lengths with the given mean and coefficient of variation, cut at both ends."""
    if lengths.cv == 0:
        drawn = np.full(count, lengths.mean)
    else:
        variance = math.log(1 + lengths.cv**2)
        drawn = rng.lognormal(math.log(lengths.mean) - variance / 2, math.sqrt(variance), size=count)
    cut: Ints = np.clip(np.rint(drawn), lengths.min, lengths.max).astype(np.int64)
    return cut


def assemble(times: Floats, prompt_tokens: Ints, output_tokens: Ints, **shared: Ints) -> Schedule:
    """Make a schedule of its columns; not given: nothing shared, no sessions, equal priorities, nobody hangs up."""
    n = len(times)
    none, zero = np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=np.int64)
    defaults = {
        "prefix_group": none,
        "prefix_tokens": zero,
        "session": none,
        "priority": zero,
        "cancel_after": zero,
        "block_starts": np.zeros(n + 1, dtype=np.int64),
        "block_ids": np.empty(0, dtype=np.int64),
    }
    return Schedule(
        times,
        prompt_tokens.astype(np.int64),
        output_tokens.astype(np.int64),
        block_tokens=np.zeros(1, dtype=np.float64),
        **(defaults | shared),
    )


def rng_of(*seeds: int) -> np.random.Generator:
    """Return a stream of chance of its own for every tuple of seeds."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([abs(seed) for seed in seeds])))
