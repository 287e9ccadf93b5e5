"""`scheduler.Scheduler`, compiled: the same decisions on arrays."""

from __future__ import annotations

from tuner.twin.compiled_cache import allocate, cached_blocks, fits, release, remember
from tuner.twin.compiled_state import (
    BLOCKS,
    BUDGET,
    COMPUTED,
    HASH_COUNT,
    HITS,
    MARKED,
    OUTPUT,
    PART_CONTEXT,
    PART_SAMPLES,
    PART_SEQUENCE,
    PART_TOKENS,
    PARTS,
    PREEMPTIONS,
    PRIORITY,
    PROMPT,
    QUERIES,
    RUN_ROW,
    RUNNING,
    SAMPLED,
    WAIT_HEAD,
    WAIT_ROW,
    WAITING,
    Ints,
    Rules,
    State,
)
from tuner.twin.jit import compiled, inlined


@compiled
def schedule(state: State, rules: Rules) -> None:
    """Compose the next step into `state.part_*`; count[PARTS] says how many."""
    state.count[PARTS] = 0
    state.count[BUDGET] = rules.max_num_batched_tokens
    preemptions = state.count[PREEMPTIONS]
    _schedule_running(state, rules)
    if state.count[PREEMPTIONS] == preemptions:
        _admit(state, rules)


@compiled
def wait_last(state: State, i: int) -> None:
    """Queue request `i` behind all waiting ones."""
    size = state.lists.shape[1]
    state.lists[WAIT_ROW, (state.count[WAIT_HEAD] + state.count[WAITING]) % size] = i
    state.count[WAITING] += 1


@compiled
def remove(state: State, i: int) -> None:
    """Forget request `i`, wherever it is, and free its blocks."""
    if not _remove_running(state, i):
        _remove_waiting(state, i)
    release(state, i)


@compiled
def _schedule_running(state: State, rules: Rules) -> None:
    index = 0
    while index < state.count[RUNNING] and state.count[BUDGET] > 0:
        i = state.lists[RUN_ROW, index]
        missing = state.seq[i, PROMPT] + state.seq[i, SAMPLED] - state.seq[i, COMPUTED]
        tokens = min(_chunk(rules, missing), state.count[BUDGET])
        if state.seq[i, SAMPLED] < state.seq[i, OUTPUT] and tokens > 0:
            if state.seq[i, COMPUTED] + tokens > state.seq[i, BLOCKS] * rules.block_size:
                _make_room(state, rules, i, tokens)
            if index >= state.count[RUNNING] or state.lists[RUN_ROW, index] != i:
                break
            _commit(state, rules, i, tokens)
        index += 1


@compiled
def _make_room(state: State, rules: Rules, i: int, tokens: int) -> None:
    while not allocate(state, rules, i, 0, state.seq[i, COMPUTED] + tokens):
        victim = _victim(state, rules)
        _withdraw(state, victim)
        _preempt(state, victim)
        if victim == i:
            break


@compiled
def _victim(state: State, rules: Rules) -> int:
    victim: int = state.lists[RUN_ROW, state.count[RUNNING] - 1]
    if rules.priority_policy == 1:
        for index in range(state.count[RUNNING]):
            i = state.lists[RUN_ROW, index]
            if _before(state.seq, victim, i):
                victim = i
    return victim


@compiled
def _before(seq: Ints, one: int, other: int) -> bool:
    earlier: bool = one < other
    if seq[one, PRIORITY] != seq[other, PRIORITY]:
        earlier = seq[one, PRIORITY] < seq[other, PRIORITY]
    return earlier


@compiled
def _withdraw(state: State, victim: int) -> None:
    for part in range(state.count[PARTS]):
        if state.part[PART_SEQUENCE, part] == victim:
            state.count[BUDGET] += state.part[PART_TOKENS, part]
            state.seq[victim, SAMPLED] -= state.part[PART_SAMPLES, part]
            for later in range(part + 1, state.count[PARTS]):
                state.part[PART_SEQUENCE, later - 1] = state.part[PART_SEQUENCE, later]
                state.part[PART_TOKENS, later - 1] = state.part[PART_TOKENS, later]
                state.part[PART_CONTEXT, later - 1] = state.part[PART_CONTEXT, later]
                state.part[PART_SAMPLES, later - 1] = state.part[PART_SAMPLES, later]
            state.count[PARTS] -= 1
            return


@compiled
def _preempt(state: State, victim: int) -> None:
    _remove_running(state, victim)
    release(state, victim)
    state.seq[victim, COMPUTED] = 0
    size = state.lists.shape[1]
    state.count[WAIT_HEAD] = (state.count[WAIT_HEAD] - 1) % size
    state.lists[WAIT_ROW, state.count[WAIT_HEAD]] = victim
    state.count[WAITING] += 1
    state.count[PREEMPTIONS] += 1


@compiled
def _admit(state: State, rules: Rules) -> None:
    while state.count[WAITING] > 0 and state.count[BUDGET] > 0 and state.count[RUNNING] < rules.max_num_seqs:
        i = _next_waiting(state, rules)
        cached = cached_blocks(state, rules, i)
        computed = cached * rules.block_size
        whole = state.seq[i, PROMPT] + state.seq[i, SAMPLED]
        tokens = _chunk(rules, whole - computed)
        if rules.chunked_prefill == 0 and tokens > state.count[BUDGET]:
            return
        tokens = min(tokens, state.count[BUDGET])
        if not fits(state, rules, i, cached, whole):
            return
        allocate(state, rules, i, cached, computed + tokens)
        if state.seq[i, SAMPLED] == 0:
            state.count[QUERIES] += state.seq[i, PROMPT]
            state.count[HITS] += computed
        _remove_waiting(state, i)
        state.lists[RUN_ROW, state.count[RUNNING]] = i
        state.count[RUNNING] += 1
        state.seq[i, COMPUTED] = computed
        _commit(state, rules, i, tokens)


@compiled
def _next_waiting(state: State, rules: Rules) -> int:
    size = state.lists.shape[1]
    best: int = state.lists[WAIT_ROW, state.count[WAIT_HEAD]]
    if rules.priority_policy == 1:
        for offset in range(1, state.count[WAITING]):
            i = state.lists[WAIT_ROW, (state.count[WAIT_HEAD] + offset) % size]
            if _before(state.seq, i, best):
                best = i
    return best


@inlined
def _chunk(rules: Rules, tokens: int) -> int:
    threshold = rules.long_prefill_token_threshold
    return min(tokens, threshold) if threshold > 0 else tokens


@inlined
def _commit(state: State, rules: Rules, i: int, tokens: int) -> None:
    part = state.count[PARTS]
    state.part[PART_SEQUENCE, part] = i
    state.part[PART_TOKENS, part] = tokens
    state.part[PART_CONTEXT, part] = state.seq[i, COMPUTED]
    state.seq[i, COMPUTED] += tokens
    samples = 1 if state.seq[i, COMPUTED] == state.seq[i, PROMPT] + state.seq[i, SAMPLED] else 0
    state.part[PART_SAMPLES, part] = samples
    state.seq[i, SAMPLED] += samples
    state.count[PARTS] += 1
    state.count[BUDGET] -= tokens
    if state.seq[i, MARKED] < state.seq[i, HASH_COUNT]:
        remember(state, rules, i, min(state.seq[i, COMPUTED], state.seq[i, PROMPT]))


@compiled
def _remove_running(state: State, i: int) -> bool:
    last = state.count[RUNNING] - 1
    for index in range(last + 1):
        if state.lists[RUN_ROW, index] == i:
            for later in range(index, last):
                state.lists[RUN_ROW, later] = state.lists[RUN_ROW, later + 1]
            state.count[RUNNING] = last
            return True
    return False


@compiled
def _remove_waiting(state: State, i: int) -> None:
    size, head = state.lists.shape[1], state.count[WAIT_HEAD]
    for offset in range(state.count[WAITING]):
        if state.lists[WAIT_ROW, (head + offset) % size] == i:
            for earlier in range(offset, 0, -1):
                state.lists[WAIT_ROW, (head + earlier) % size] = state.lists[WAIT_ROW, (head + earlier - 1) % size]
            state.count[WAIT_HEAD] = (head + 1) % size
            state.count[WAITING] -= 1
            return
