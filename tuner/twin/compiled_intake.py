"""`intake.Intake`, compiled: the same processor sharing on arrays."""

from __future__ import annotations

import math

from tuner.twin.compiled_scheduler import wait_last
from tuner.twin.compiled_state import ARRIVED, AT_SERVER, INTAKE, JOB_ROW, JOBS, PROMPT, RANK_ROW, READY, SERVED, State
from tuner.twin.jit import compiled
from tuner.twin.steptime import StepCost


@compiled
def next_intake_s(state: State) -> float:
    """When the next request arrives or has been taken in; infinity when there is none."""
    event_s: float = math.inf
    if state.count[ARRIVED] < state.seq.shape[0]:
        event_s = state.times[state.lists[RANK_ROW, state.count[ARRIVED]], AT_SERVER]
    if state.count[JOBS] > 0:
        event_s = min(event_s, _done_s(state, _first_job(state)))
    return event_s


@compiled
def advance_intake(state: State, cost: StepCost, until_s: float) -> None:
    """Queue the requests taken in by `until_s`, in order."""
    while True:
        event_s = next_intake_s(state)
        if event_s > until_s or event_s == math.inf:
            return
        first = _first_job(state)
        if first >= 0 and event_s == _done_s(state, first):
            state.clock[SERVED] = state.times[state.lists[JOB_ROW, first], READY]
            wait_last(state, state.lists[JOB_ROW, first])
            state.count[JOBS] -= 1
            state.lists[JOB_ROW, first] = state.lists[JOB_ROW, state.count[JOBS]]
        else:
            _begin(state, cost, event_s)
        state.clock[INTAKE] = event_s


@compiled
def _begin(state: State, cost: StepCost, now_s: float) -> None:
    if state.count[JOBS] > 0:
        state.clock[SERVED] += (now_s - state.clock[INTAKE]) / state.count[JOBS]
    i = state.lists[RANK_ROW, state.count[ARRIVED]]
    state.times[i, READY] = state.clock[SERVED] + (cost.intake_s + cost.intake_token_s * state.seq[i, PROMPT])
    state.lists[JOB_ROW, state.count[JOBS]] = i
    state.count[JOBS] += 1
    state.count[ARRIVED] += 1


@compiled
def _first_job(state: State) -> int:
    """Position of the job that ends first (of equals, the request that came first); -1 when there is none."""
    best = -1
    for position in range(state.count[JOBS]):
        i = state.lists[JOB_ROW, position]
        if best < 0 or _ends_before(state, i, state.lists[JOB_ROW, best]):
            best = position
    return best


@compiled
def _ends_before(state: State, one: int, other: int) -> bool:
    earlier: bool = one < other
    if state.times[one, READY] != state.times[other, READY]:
        earlier = state.times[one, READY] < state.times[other, READY]
    return earlier


@compiled
def _done_s(state: State, position: int) -> float:
    remaining_s: float = state.times[state.lists[JOB_ROW, position], READY] - state.clock[SERVED]
    done_s: float = state.clock[INTAKE] + remaining_s * state.count[JOBS]
    return done_s
