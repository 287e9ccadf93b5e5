"""The emulator's engine in virtual time: cache hits are decided by the hashes of the tokens that would be sent.

The prompts are the load generator's own bytes, their blocks are hashed as the emulator hashes what it receives, and the
engine is the emulator's (`TwinEngine`), driven by its own events instead of the wall clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np

from benchmarks.prefix_capacity.cells import Cell, Level, judged, requests_at
from controlplane.domain.slo import LatencyMetric
from controlplane.emulator.tokens import block_hashes
from loadtests.send.prompts import TokenIdPrompts, parts_of
from tuner.twin.compiled_state import Floats
from tuner.twin.engine import TwinEngine
from tuner.twin.simulate import RequestArrays

_SALT = 11


def run_level(cell: Cell, rate_rps: float) -> Level:
    """Send one level's requests to an engine that was just started."""
    profile, setup = cell.profile, cell.setup
    requests = requests_at(profile, rate_rps)
    engine = TwinEngine(setup)
    for number, tokens in enumerate(prompts_of(requests)):
        engine.submit(
            number,
            prompt_tokens=len(tokens),
            max_tokens=int(requests.output_tokens[number]),
            now_s=float(requests.scheduled_s[number]),
            block_hashes=block_hashes(tokens, setup.block_size) if setup.prefix_caching else (),
        )
    return judged(profile, rate_rps, requests.scheduled_s, _latencies_s(engine, requests))


def prompts_of(requests: RequestArrays) -> Iterator[list[int]]:
    """Yield the token ids of every prompt, as the load generator writes them."""
    sharing, prompts = requests.sharing, TokenIdPrompts(_SALT)
    assert sharing is not None
    for number, total in enumerate(requests.prompt_tokens.tolist()):
        group, shared = int(sharing.prefix_group[number]), int(sharing.prefix_tokens[number])
        yield json.loads(prompts.render(parts_of(number, total, group=group, group_tokens=shared)))


def _latencies_s(engine: TwinEngine, requests: RequestArrays) -> dict[LatencyMetric, Floats]:
    first, last = np.full((2, len(requests.scheduled_s)), np.nan)
    while (event_s := engine.next_event_s) is not None:
        step = engine.next_step(event_s)
        for emission in step.emitted if step is not None else ():
            if np.isnan(first[emission.request_id]):
                first[emission.request_id] = emission.at_s
            last[emission.request_id] = emission.at_s
    return {
        LatencyMetric.TTFT: first - requests.scheduled_s,
        LatencyMetric.E2E: last - requests.scheduled_s,
        LatencyMetric.TPOT: (last - first) / np.maximum(requests.output_tokens - 1, 1),
    }
