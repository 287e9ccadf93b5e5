"""The KV cache as vLLM's block pool sees it: counted blocks, and cached prompt blocks named by their hash.

Follows `vllm/v1/core/block_pool.py`: a block that is free but still holds a known prefix can be taken back by the next
request with that prefix; when clean blocks run out, the least recently freed cached block is evicted. Blocks of a
finished request are freed last block first, so that the beginnings of prompts live longest.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field


@dataclass(slots=True)
class Sequence:
    """One request inside the engine. `sampled` counts output tokens scheduled, `delivered` those already out."""

    request_id: int
    prompt_tokens: int
    max_tokens: int
    order: int
    priority: int = 0
    hashes: tuple[int, ...] = ()
    adapter: str | None = None
    """The LoRA adapter it is for; None: the base model."""
    computed: int = 0
    sampled: int = 0
    delivered: int = 0
    streamed: int = 0
    blocks: int = 0
    marked: int = 0
    """Prompt blocks whose hash has been offered to the cache."""
    owned: list[int] = field(default_factory=list)
    """Indices of blocks this request holds by hash; the others are its alone."""

    @property
    def missing(self) -> int:
        """Tokens known (or being sampled) whose keys and values were not computed yet."""
        return self.prompt_tokens + self.sampled - self.computed


class KvPool:
    """Blocks of `block_size` tokens. One is set aside, as vLLM's null block is."""

    def __init__(self, blocks: int, block_size: int, *, caching: bool) -> None:
        self.total = blocks - 1
        self.block_size = block_size
        self._caching = caching
        self._clean = self.total
        self._references: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        self.hits = 0
        self.queries = 0

    @property
    def free(self) -> int:
        return self._clean + len(self._idle)

    def usage(self) -> float:
        """Share of blocks in use, 0 to 1: `vllm:kv_cache_usage_perc`."""
        return 1 - self.free / self.total

    def cached_blocks(self, sequence: Sequence) -> int:
        """Leading blocks of the prompt found in the cache; the last token is always computed anew."""
        if not self._caching:
            return 0
        most = min(len(sequence.hashes), (sequence.prompt_tokens + sequence.sampled - 1) // self.block_size)
        for index in range(most):
            if sequence.hashes[index] not in self._references:
                return index
        return most

    def fits(self, sequence: Sequence, cached: int, tokens: int) -> bool:
        """Say whether blocks for `tokens` tokens can be had, `cached` of them from the cache."""
        need = self._blocks_for(tokens) - sequence.blocks - cached
        revived = sum(1 for index in range(cached) if self._references[sequence.hashes[index]] == 0)
        return need + revived <= self.free

    def allocate(self, sequence: Sequence, cached: int, tokens: int) -> bool:
        """Give the sequence blocks for its first `tokens` tokens; False (and no change) when there are too few."""
        if not cached and tokens <= sequence.blocks * self.block_size:
            return True  # as nearly always, while it decodes
        if not self.fits(sequence, cached, tokens):
            return False
        for index in range(cached):
            self._take_cached(sequence, index)
        need = max(0, self._blocks_for(tokens) - sequence.blocks)
        for _ in range(max(0, need - self._clean)):
            evicted, _ = self._idle.popitem(last=False)
            del self._references[evicted]
            self._clean += 1
        self._clean -= need
        sequence.blocks += need
        return True

    def remember(self, sequence: Sequence, tokens: int) -> None:
        """Offer the full prompt blocks within the first `tokens` tokens to the cache."""
        full = min(tokens // self.block_size, len(sequence.hashes)) if self._caching else 0
        while sequence.marked < full:
            name = sequence.hashes[sequence.marked]
            if name not in self._references:
                self._references[name] = 1
                sequence.owned.append(sequence.marked)
            sequence.marked += 1

    def release(self, sequence: Sequence) -> None:
        """Take every block back, the last first."""
        for index in reversed(sequence.owned):
            name = sequence.hashes[index]
            self._references[name] -= 1
            if self._references[name] == 0:
                self._idle[name] = None
        self._clean += sequence.blocks - len(sequence.owned)
        sequence.blocks = sequence.marked = 0
        sequence.owned.clear()

    def _take_cached(self, sequence: Sequence, index: int) -> None:
        name = sequence.hashes[index]
        if self._references[name] == 0:
            del self._idle[name]
        self._references[name] += 1
        sequence.owned.append(index)
        sequence.blocks += 1
        sequence.marked = index + 1

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.block_size)
