"""Which beginnings of prompts a replica has probably in its prefix cache: those it was sent lately."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

BLOCK_TOKENS = 16
"""Of token ids exactly, of text some: 64 bytes (`fingerprint`)."""
MOST_BLOCKS = 32_768
"""Half a million tokens, what the KV cache of a large GPU holds; some 4 MiB of ours."""


class Prefixes:
    """Hashes of blocks, the latest used kept. Each hash covers all before it, so one that is known tells of all."""

    def __init__(self, most: int = MOST_BLOCKS) -> None:
        self._most = most
        self._known: OrderedDict[int, None] = OrderedDict()

    def matched(self, blocks: Sequence[int]) -> int:
        """Return how many of the leading blocks are known."""
        low, high = 0, len(blocks)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if blocks[middle - 1] in self._known else (low, middle - 1)
        return low

    def learn(self, blocks: Sequence[int]) -> None:
        """Note blocks that were sent. Later ones are forgotten first: without what is before them they are no use."""
        for block in reversed(blocks):
            self._known[block] = None
            self._known.move_to_end(block)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
