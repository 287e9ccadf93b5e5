"""The compiled engine's memory: a few arrays whose rows and columns are named by the constants here.

Few, because numba counts references to every array of a named tuple on every call.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# State.clock, seconds
CORE, GPU, WORKER, API, INTAKE, SERVED, END_0, END_1, HEAT = range(9)
# State.count
RUNNING, WAIT_HEAD, WAITING, ARRIVED, JOBS, FLIGHTS, FLIGHT_HEAD, STALLED, CLEAN, IDLE = range(10)
PREEMPTIONS, STEPS, HITS, QUERIES, FINISHED, PARTS, PARTS_0, PARTS_1, PEAK_USED, BUDGET = range(10, 20)
# State.seq columns
PROMPT, OUTPUT, PRIORITY, HASH_START, HASH_COUNT, COMPUTED, SAMPLED, DELIVERED, STREAMED, BLOCKS, MARKED = range(11)
# State.times columns, seconds
AT_SERVER, READY, FIRST, LAST, GAP = range(5)
# State.lists rows
RUN_ROW, WAIT_ROW, RANK_ROW, JOB_ROW = range(4)
# State.hashes rows
NAME, HELD = range(2)
# State.cache rows
REFERENCES, OLDER, NEWER = range(3)
# State.part and State.flight rows
PART_SEQUENCE, PART_SAMPLES, PART_TOKENS, PART_CONTEXT = range(4)


class Rules(NamedTuple):
    """The scheduler's limits, 0/1 for switches."""

    max_num_seqs: int
    max_num_batched_tokens: int
    chunked_prefill: int
    long_prefill_token_threshold: int
    priority_policy: int
    depth: int
    block_size: int
    blocks: int
    caching: int
    stream_interval: int


class State(NamedTuple):
    """One engine and its requests.

    clock (9), count (20); seq (requests, 11) and times (requests, 5); lists (4, requests + 1): who runs, who waits (a
    ring), the order of arrival, who is being taken in; hashes (2, block names of all prompts); cache (3, different
    names + 1): references (-1 is not cached) and the circular list of idle blocks, oldest first; part (4, running):
    the step being composed; flight (2, 2, running): the steps in flight.
    """

    clock: Floats
    count: Ints  # type: ignore[assignment]  # not tuple.count: nobody counts in a State
    seq: Ints
    times: Floats
    lists: Ints
    hashes: Ints
    cache: Ints
    part: Ints
    flight: Ints


def new_state(requests: int, rules: Rules, *, hashes: int, names: int) -> State:
    """Return an idle engine; the caller fills in what the requests want."""
    most = max(1, min(requests, rules.max_num_seqs))
    count = np.zeros(20, np.int64)
    count[CLEAN] = rules.blocks
    times = np.full((requests, 5), np.nan)
    times[:, GAP] = 0.0
    cache = np.full((3, names + 1), names, np.int64)
    cache[REFERENCES] = -1
    clock = np.full(9, -np.inf)
    clock[INTAKE] = clock[SERVED] = clock[HEAT] = 0.0
    return State(
        clock=clock,
        count=count,
        seq=np.zeros((requests, 11), np.int64),
        times=times,
        lists=np.zeros((4, requests + 1), np.int64),
        hashes=np.zeros((2, hashes), np.int64),
        cache=cache,
        part=np.zeros((4, most), np.int64),
        flight=np.zeros((2, 2, most), np.int64),
    )
