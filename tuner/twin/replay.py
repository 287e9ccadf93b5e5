"""A measured cell through the twin, as its client really sent it."""

from __future__ import annotations

import numpy as np

from tuner.twin.measurements import Cell
from tuner.twin.setup import EngineSetup
from tuner.twin.simulate import ResultArrays
from tuner.twin.spread import slowed


def replay(setup: EngineSetup, cell: Cell, slower: float = 1.0) -> ResultArrays:
    """Return what the engine, `slower` times as slow, does with `cell`; latencies count from the scheduled instants.

    A client that sends late makes latencies longer, and bunches up what was meant to be spread out: both are the
    client's doing and known from its records, so they are replayed instead of being held against the engine. The part
    of the lag that goes with the prompt's length (building the body) is in the twin's `wire_token_us` already.
    """
    body_s = setup.profile.parameters.wire_token_us * 1e-6 * cell.requests.prompt_tokens
    late_s = np.maximum(0.0, cell.lag_s - body_s)
    sent = cell.requests._replace(scheduled_s=cell.requests.scheduled_s + late_s)
    result = slowed(setup, sent)(slower)
    return result._replace(ttft_s=result.ttft_s + late_s, e2e_s=result.e2e_s + late_s)
