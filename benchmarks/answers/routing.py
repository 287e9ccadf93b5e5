"""Requests spread over the engines of a fleet: each goes to the engine with the fewest in flight when it arrives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tuner.twin.compiled import run
from tuner.twin.compiled_state import (
    ARRIVED,
    AT_SERVER,
    DELIVERED,
    FINISHED,
    FIRST,
    GAP,
    LAST,
    OUTPUT,
    PROMPT,
    RANK_ROW,
    Rules,
    State,
    new_state,
)
from tuner.twin.engine import check_length
from tuner.twin.setup import EngineSetup
from tuner.twin.simulate import RequestArrays, engine_rules, simulate

Floats = NDArray[np.float64]
_END_OF_TIME_S = 1e12


class Served(NamedTuple):
    """Per request, seconds from its instant, and the engine's number. TPOT and gap are NaN for answers of one token."""

    ttft_s: Floats
    tpot_s: Floats
    e2e_s: Floats
    max_gap_s: Floats
    engine: NDArray[np.int64]


class Lane(NamedTuple):
    """One engine of a fleet; all its times are `slower` times those of its setup."""

    setup: EngineSetup
    slower: float = 1.0


def serve(lanes: Sequence[Lane], requests: RequestArrays) -> Served:
    """Return what a fleet does with the requests, least-loaded engine first (of equals, in turn).

    An engine that is `slower` is the setup under arrivals that come `slower` times as fast, with all its times
    stretched by as much: exact, and nothing of the cost model changes. What prompts share is seen by an engine alone,
    not by several. Raises InvalidInput for a request that the
    engines would refuse.
    """
    if len(lanes) == 1:
        return _alone(lanes[0], requests)
    longest = int(np.argmax(requests.prompt_tokens + requests.output_tokens))
    check_length(lanes[0].setup, int(requests.prompt_tokens[longest]), int(requests.output_tokens[longest]))
    engines = [_Engine(lane, len(requests.scheduled_s)) for lane in lanes]
    places = np.empty(len(requests.scheduled_s), dtype=np.int64)
    for row, at_s in enumerate(requests.scheduled_s):
        loads = [engine.in_flight(float(at_s)) for engine in engines]
        least = min(loads)
        chosen = next(p % len(loads) for p in range(row, row + len(loads)) if loads[p % len(loads)] == least)
        engines[chosen].take(row, float(at_s), requests)
        places[row] = chosen
    whole = [engine.finished(requests) for engine in engines]
    rows = np.arange(len(places))
    ttft, tpot, e2e, gap = (np.array(column)[places, rows] for column in zip(*whole, strict=True))
    return Served(ttft, tpot, e2e, gap, places)


def _alone(lane: Lane, requests: RequestArrays) -> Served:
    found = simulate(lane.setup, requests._replace(scheduled_s=requests.scheduled_s / lane.slower))
    slower, only = lane.slower, np.zeros(len(requests.scheduled_s), dtype=np.int64)
    return Served(found.ttft_s * slower, found.tpot_s * slower, found.e2e_s * slower, found.max_gap_s * slower, only)


class _Engine:
    """An engine that is given its requests one after another. Row `n` of its state never arrives."""

    def __init__(self, lane: Lane, requests: int) -> None:
        self._lane = lane
        self._rules: Rules = engine_rules(lane.setup)
        self._state: State = new_state(requests + 1, self._rules, hashes=0, names=0)
        self._state.times[:, AT_SERVER] = math.inf
        self._state.lists[RANK_ROW, :] = requests
        self._taken = 0

    def in_flight(self, at_s: float) -> int:
        self._go_on(at_s / self._lane.slower)
        return self._taken - int(self._state.count[FINISHED])

    def take(self, row: int, at_s: float, requests: RequestArrays) -> None:
        state, cost = self._state, self._lane.setup.cost
        prompt = int(requests.prompt_tokens[row])
        state.seq[row, PROMPT], state.seq[row, OUTPUT] = prompt, requests.output_tokens[row]
        at_server = at_s / self._lane.slower + cost.wire_s + cost.wire_token_s * prompt
        state.times[row, AT_SERVER] = at_server
        rank, place = state.lists[RANK_ROW], self._taken
        while place > state.count[ARRIVED] and state.times[rank[place - 1], AT_SERVER] > at_server:
            rank[place] = rank[place - 1]  # a long prompt is sent for longer than the short one after it
            place -= 1
        rank[place] = row
        self._taken += 1

    def finished(self, requests: RequestArrays) -> tuple[Floats, Floats, Floats, Floats]:
        """Return TTFT, TPOT, E2E and largest gap of the requests taken, seconds; of the others nothing that counts."""
        self._go_on(_END_OF_TIME_S)
        state, slower = self._state, self._lane.slower
        sent_s = requests.scheduled_s / slower
        ttft = state.times[:-1, FIRST] - sent_s
        e2e = state.times[:-1, LAST] - sent_s
        several = state.seq[:-1, DELIVERED] > 1
        tpot = np.where(several, (e2e - ttft) / np.maximum(state.seq[:-1, OUTPUT] - 1, 1), np.nan)
        gap = np.where(several, state.times[:-1, GAP], np.nan)
        return ttft * slower, tpot * slower, e2e * slower, gap * slower

    def _go_on(self, until_s: float) -> None:
        run(self._state, self._rules, self._lane.setup.cost, until_s)
