"""How misses follow each other in a real queue: first tokens of one twin replica near its capacity.

A limit at the right quantile of its waits makes any ratio of misses, with the runs that the queue makes them come in.
Longer series are put together from pieces of a thousand requests at random places.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.workload import TraceWorkload
from loadtests.send.schedule import build_schedule
from tuner.twin.engine import TwinEngine
from tuner.twin.setup import resolve
from tuner.twin.shapes import load_shape

RATE_RPS = 2.4  # of the conversation trace: some 3 % of first tokens come seconds late
REQUESTS = 6_000
PIECE = 1000


def queue_hits(ratio: float, requests: int, rollouts: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return whether each request missed, rollout by rollout."""
    waits = _waits_s()
    late = waits > np.quantile(waits, 1 - ratio)
    pieces = -(-max(1, requests) // PIECE)
    begins = rng.integers(0, len(late) - PIECE, (rollouts, pieces))
    return np.asarray(late[(begins[:, :, None] + np.arange(PIECE)).reshape(rollouts, -1)[:, : max(1, requests)]])


def queue_waits_ms(rng: np.random.Generator, requests: int) -> npt.NDArray[np.float64]:
    """Return one rollout's first tokens, milliseconds."""
    waits = _waits_s()
    begins = rng.integers(0, len(waits) - PIECE, -(-max(1, requests) // PIECE))
    return np.asarray(1e3 * waits[(begins[:, None] + np.arange(PIECE)).ravel()[:requests]])


@functools.cache
def _waits_s() -> npt.NDArray[np.float64]:
    """Return seconds until the first token, in the order of arrival."""
    config = EngineConfig(flags={"tensor-parallel-size": 2, "max-model-len": 8192, "max-num-seqs": 48})
    twin = TwinEngine(resolve(load_shape("llama-70b"), "H200", config))
    duration_s = REQUESTS / RATE_RPS
    schedule = build_schedule(
        TraceWorkload(trace="azure-llm-2023/conv", seed=7), rate_rps=RATE_RPS, duration_s=duration_s, seed=7
    )
    first: dict[int, float] = {}
    for number, at_s in enumerate(schedule.scheduled_s):
        _run(twin, float(at_s), first)
        prompt, wanted = int(schedule.prompt_tokens[number]), int(schedule.output_tokens[number])
        twin.submit(number, prompt_tokens=prompt, max_tokens=wanted, now_s=float(at_s))
    _run(twin, duration_s + 600, first)
    return np.array([first[number] - schedule.scheduled_s[number] for number in sorted(first)])


def _run(twin: TwinEngine, until_s: float, first: dict[int, float]) -> None:
    while (step := twin.next_step(until_s)) is not None:
        for emission in step.emitted:
            first.setdefault(emission.request_id, emission.at_s)
