"""`engine.TwinEngine`, compiled: the same events on arrays, thousands of times faster than real time."""

from __future__ import annotations

from tuner.twin.compiled_intake import advance_intake, next_intake_s
from tuner.twin.compiled_scheduler import remove, schedule
from tuner.twin.compiled_state import (
    API,
    CORE,
    DELIVERED,
    END_0,
    FINISHED,
    FIRST,
    FLIGHT_HEAD,
    FLIGHTS,
    GAP,
    GPU,
    HEAT,
    LAST,
    OUTPUT,
    PART_CONTEXT,
    PART_SAMPLES,
    PART_SEQUENCE,
    PART_TOKENS,
    PARTS,
    PARTS_0,
    RUNNING,
    SAMPLED,
    STALLED,
    STEPS,
    STREAMED,
    WAITING,
    WORKER,
    Rules,
    State,
)
from tuner.twin.compiled_steptime import cooled, gpu_s, heated, launch_s, matmul_s
from tuner.twin.jit import compiled, inlined
from tuner.twin.steptime import StepCost, StepLoad


@compiled
def run(state: State, rules: Rules, cost: StepCost, until_s: float) -> None:
    """Advance from event to event until every request is finished or the next event is past `until_s`."""
    while state.count[FINISHED] < state.seq.shape[0]:
        schedules = _may_schedule(state, rules)
        event_s = _next_event_s(state, schedules)
        if event_s > until_s:
            return
        state.clock[CORE] = event_s
        if not schedules and state.count[FLIGHTS] > 0:
            _finish(state, rules, cost)
        advance_intake(state, cost, event_s)
        if schedules:
            _schedule(state, rules, cost)


@compiled
def _may_schedule(state: State, rules: Rules) -> bool:
    has_work: bool = state.count[RUNNING] > 0 or state.count[WAITING] > 0
    may: bool = has_work and state.count[FLIGHTS] < rules.depth and state.count[STALLED] == 0
    return may


@compiled
def _next_event_s(state: State, schedules: bool) -> float:
    event_s: float = state.clock[CORE]
    if schedules:
        return event_s
    if state.count[FLIGHTS] > 0:
        end_s: float = state.clock[END_0 + state.count[FLIGHT_HEAD]]
        return max(event_s, end_s)
    return max(event_s, next_intake_s(state))


@compiled
def _schedule(state: State, rules: Rules, cost: StepCost) -> None:
    schedule(state, rules)
    if state.count[PARTS] == 0:
        state.count[STALLED] = 1
        return
    load = _step_load(state)
    clock = state.clock
    clock[CORE] += cost.schedule_s + cost.schedule_sequence_s * load.sequences
    launching_s = max(clock[CORE], clock[WORKER]) + cost.prompt_s * load.prompts
    if load.prompt_tokens > 0:
        launching_s = max(launching_s, clock[GPU])
    clock[WORKER] = launching_s + launch_s(cost, load)
    start_s = max(clock[GPU], launching_s)
    heat = cooled(clock[HEAT], start_s - clock[GPU])
    busy_s = gpu_s(cost, load, heat)
    clock[HEAT] = heated(heat, busy_s, matmul_s(cost, load))
    clock[GPU] = max(start_s + busy_s, clock[WORKER])
    if cost.launch_blocks_core > 0:
        clock[CORE] = clock[WORKER]
    _take_off(state)


@compiled
def _take_off(state: State) -> None:
    slot = (state.count[FLIGHT_HEAD] + state.count[FLIGHTS]) % 2
    state.clock[END_0 + slot] = state.clock[GPU]
    state.count[PARTS_0 + slot] = state.count[PARTS]
    for part in range(state.count[PARTS]):
        state.flight[slot, PART_SEQUENCE, part] = state.part[PART_SEQUENCE, part]
        state.flight[slot, PART_SAMPLES, part] = state.part[PART_SAMPLES, part]
    state.count[FLIGHTS] += 1


@compiled
def _step_load(state: State) -> StepLoad:
    tokens = prompt = pairs = context = prompts = 0.0
    for part in range(state.count[PARTS]):
        chunk, before = state.part[PART_TOKENS, part], state.part[PART_CONTEXT, part]
        tokens += chunk
        if chunk == 1 and state.seq[state.part[PART_SEQUENCE, part], SAMPLED] > 1:
            context += before
        else:
            prompt += chunk
            prompts += 1.0
            pairs += chunk * (before + 0.5 * chunk)
    return StepLoad(tokens, float(state.count[PARTS]), context, pairs, prompt, prompts)


@compiled
def _finish(state: State, rules: Rules, cost: StepCost) -> None:
    state.count[STALLED] = 0
    state.count[STEPS] += 1
    state.clock[API] = max(state.clock[API], state.clock[CORE])
    slot = state.count[FLIGHT_HEAD]
    state.count[FLIGHT_HEAD] = (slot + 1) % 2
    state.count[FLIGHTS] -= 1
    for part in range(state.count[PARTS_0 + slot]):
        if state.flight[slot, PART_SAMPLES, part] == 1:
            _deliver(state, rules, cost, state.flight[slot, PART_SEQUENCE, part])


@inlined
def _deliver(state: State, rules: Rules, cost: StepCost, i: int) -> None:
    state.seq[i, DELIVERED] += 1
    finished = state.seq[i, DELIVERED] >= state.seq[i, OUTPUT]
    if finished:
        state.count[FINISHED] += 1
        remove(state, i)
    pending = state.seq[i, DELIVERED] - state.seq[i, STREAMED]
    if not (finished or state.seq[i, DELIVERED] == 1 or pending >= rules.stream_interval):
        return
    state.seq[i, STREAMED] = state.seq[i, DELIVERED]
    state.clock[API] += cost.output_s
    if state.seq[i, DELIVERED] == 1:
        state.times[i, FIRST] = state.clock[API]
    else:
        state.times[i, GAP] = max(state.times[i, GAP], state.clock[API] - state.times[i, LAST])
    state.times[i, LAST] = state.clock[API]
