"""`kvcache.KvPool`, compiled: the same rules on arrays. `references` is -1 for a block name that is not cached."""

from __future__ import annotations

from tuner.twin.compiled_state import (
    BLOCKS,
    CLEAN,
    HASH_COUNT,
    HASH_START,
    HELD,
    IDLE,
    MARKED,
    NAME,
    NEWER,
    OLDER,
    PEAK_USED,
    PROMPT,
    REFERENCES,
    SAMPLED,
    Rules,
    State,
)
from tuner.twin.jit import compiled


@compiled
def free_blocks(state: State) -> int:
    """Blocks that can be had: clean ones and idle cached ones."""
    free: int = state.count[CLEAN] + state.count[IDLE]
    return free


@compiled
def cached_blocks(state: State, rules: Rules, i: int) -> int:
    """Leading cached blocks of request `i`'s prompt."""
    if rules.caching == 0 or state.seq[i, HASH_COUNT] == 0:
        return 0
    most: int = min(state.seq[i, HASH_COUNT], (state.seq[i, PROMPT] + state.seq[i, SAMPLED] - 1) // rules.block_size)
    start = state.seq[i, HASH_START]
    for index in range(most):
        if state.cache[REFERENCES, state.hashes[NAME, start + index]] < 0:
            return index
    return most


@compiled
def fits(state: State, rules: Rules, i: int, cached: int, tokens: int) -> bool:
    """Whether blocks for `tokens` tokens can be had, `cached` of them from the cache."""
    need: int = -(-tokens // rules.block_size) - state.seq[i, BLOCKS] - cached
    start = state.seq[i, HASH_START]
    for index in range(cached):
        if state.cache[REFERENCES, state.hashes[NAME, start + index]] == 0:
            need += 1
    return need <= free_blocks(state)


@compiled
def allocate(state: State, rules: Rules, i: int, cached: int, tokens: int) -> bool:
    """Give request `i` blocks for `tokens` tokens, or change nothing and return False."""
    if not fits(state, rules, i, cached, tokens):
        return False
    for index in range(cached):
        _take_cached(state, i, index)
    need = max(0, -(-tokens // rules.block_size) - state.seq[i, BLOCKS])
    while state.count[CLEAN] < need:
        _evict_oldest(state)
    state.count[CLEAN] -= need
    state.seq[i, BLOCKS] += need
    state.count[PEAK_USED] = max(state.count[PEAK_USED], rules.blocks - free_blocks(state))
    return True


@compiled
def remember(state: State, rules: Rules, i: int, tokens: int) -> None:
    """Offer the full prompt blocks within the first `tokens` tokens to the cache."""
    if rules.caching == 0:
        return
    full = min(tokens // rules.block_size, state.seq[i, HASH_COUNT])
    for index in range(state.seq[i, MARKED], full):
        position = state.seq[i, HASH_START] + index
        name = state.hashes[NAME, position]
        if state.cache[REFERENCES, name] < 0:
            state.cache[REFERENCES, name] = 1
            state.hashes[HELD, position] = 1
    state.seq[i, MARKED] = max(state.seq[i, MARKED], full)


@compiled
def release(state: State, i: int) -> None:
    """Take every block of request `i` back, the last first."""
    alone = state.seq[i, BLOCKS]
    for index in range(state.seq[i, HASH_COUNT] - 1, -1, -1):
        position = state.seq[i, HASH_START] + index
        if state.hashes[HELD, position] == 1:
            state.hashes[HELD, position] = 0
            alone -= 1
            name = state.hashes[NAME, position]
            state.cache[REFERENCES, name] -= 1
            if state.cache[REFERENCES, name] == 0:
                _append_idle(state, name)
    state.count[CLEAN] += alone
    state.seq[i, BLOCKS] = 0
    state.seq[i, MARKED] = 0


@compiled
def _take_cached(state: State, i: int, index: int) -> None:
    position = state.seq[i, HASH_START] + index
    name = state.hashes[NAME, position]
    if state.cache[REFERENCES, name] == 0:
        _unlink_idle(state, name)
    state.cache[REFERENCES, name] += 1
    state.hashes[HELD, position] = 1
    state.seq[i, BLOCKS] += 1
    state.seq[i, MARKED] = index + 1


@compiled
def _append_idle(state: State, name: int) -> None:
    end = state.cache.shape[1] - 1
    last = state.cache[OLDER, end]
    state.cache[NEWER, last] = name
    state.cache[OLDER, name] = last
    state.cache[NEWER, name] = end
    state.cache[OLDER, end] = name
    state.count[IDLE] += 1


@compiled
def _unlink_idle(state: State, name: int) -> None:
    state.cache[NEWER, state.cache[OLDER, name]] = state.cache[NEWER, name]
    state.cache[OLDER, state.cache[NEWER, name]] = state.cache[OLDER, name]
    state.count[IDLE] -= 1


@compiled
def _evict_oldest(state: State) -> None:
    name = state.cache[NEWER, state.cache.shape[1] - 1]
    _unlink_idle(state, name)
    state.cache[REFERENCES, name] = -1
    state.count[CLEAN] += 1
