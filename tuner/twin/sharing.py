"""Which blocks of a workload's prompts hold the same text: what an engine's prefix cache can find again.

vLLM names a full block by the hash of its tokens and of everything before it (`kv_cache_utils.hash_block_tokens`). Here
a block is named by where its text comes from: the stream its group shares, the trace's own block ids, or the request.
Whole blocks only: where a shared prefix ends inside a block, that block is nobody else's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tuner.twin.compiled_state import Ints


class Sharing(NamedTuple):
    """What each of n prompts begins with: its group's stream, then blocks of a trace by id, then text of its own."""

    prefix_group: Ints
    """(n,) -1: nothing shared."""
    prefix_tokens: Ints
    """(n,) Tokens of the group's stream."""
    block_starts: Ints
    """(n + 1,) Request i has block_ids[block_starts[i]:block_starts[i + 1]]."""
    block_ids: Ints
    block_tokens: float = 0.0
    """Tokens of one of the trace's blocks; 0 without any."""


class BlockNames(NamedTuple):
    """Names of every full block of every prompt, one request after the other, and how many each has."""

    names: Ints
    counts: Ints
    different: int


def one_prefix(prompt_tokens: Ints, share: float) -> Sharing:
    """Return prompts whose first `share` is the same text in all of them."""
    tokens = np.floor(prompt_tokens * share).astype(np.int64)
    none = np.zeros(0, np.int64)
    return Sharing(np.where(tokens > 0, 0, -1), tokens, np.zeros(len(tokens) + 1, np.int64), none)


def shares_nothing(sharing: Sharing) -> bool:
    """Say whether no prompt has text of another one's."""
    grouped = (sharing.prefix_group >= 0) & (sharing.prefix_tokens > 0)
    return not grouped.any() and (sharing.block_tokens <= 0 or not len(sharing.block_ids))


def block_names(sharing: Sharing | None, prompt_tokens: Ints, block_size: int) -> BlockNames:
    """Return a name for every full block of `block_size` tokens: equal where the text up to its end is.

    Without sharing every block is named all the same: a preempted request finds its own again.
    """
    counts = prompt_tokens // block_size
    total = int(counts.sum())
    names = np.arange(total, dtype=np.int64)
    if sharing is None or total == 0:
        return BlockNames(names, counts, total)
    request = np.repeat(np.arange(len(counts)), counts)
    place = names - np.repeat(np.cumsum(counts) - counts, counts)
    end = (place + 1) * block_size
    from_group = (sharing.prefix_group[request] >= 0) & (end <= sharing.prefix_tokens[request])
    from_trace, trace_id = _trace_blocks(sharing, request, end)
    shared = np.flatnonzero(from_group | from_trace)
    if not len(shared):
        return BlockNames(names, counts, total)
    source = np.where(from_group, sharing.prefix_group[request], trace_id)
    _, number = np.unique(
        np.stack([source, from_group.astype(np.int64), place])[:, shared], axis=1, return_inverse=True
    )
    names[shared] = total + number.reshape(-1)
    different, dense = np.unique(names, return_inverse=True)
    return BlockNames(dense.reshape(-1).astype(np.int64), counts, len(different))


def _trace_blocks(
    sharing: Sharing, request: Ints, end: Ints
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.bool_]], Ints]:
    """Return which blocks end inside the trace's blocks, and in which by its id (which stands for all before it)."""
    if sharing.block_tokens <= 0 or not len(sharing.block_ids):
        return np.zeros(len(end), np.bool_), np.zeros(len(end), np.int64)
    after_prefix = end - np.where(sharing.prefix_group[request] >= 0, sharing.prefix_tokens[request], 0)
    number = np.ceil(after_prefix / sharing.block_tokens).astype(np.int64) - 1
    held = sharing.block_starts[request + 1] - sharing.block_starts[request]
    inside = (number >= 0) & (number < held)
    at = np.where(inside, sharing.block_starts[request] + number, 0)
    return inside, sharing.block_ids[at]
