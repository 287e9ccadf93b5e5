"""One kind of hit where sessions are clusters: what one user meets is one circumstance, not as many as it has requests.

A session's requests stand side by side in the chain, where the session began: a user all of whose requests miss is one
run of misses, however others' come between them, and such runs are what bounds reckon with (`bursts`). The first
`MOST_OF_A_SESSION` of a step count, so that nobody is more than one run of that length. Which count, and where, depends
on the order of arrival alone, never on how they went.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from controlplane.domain.rollouts.bursts import Runs

MOST_OF_A_SESSION = 10
"""As long as the mean run that is reckoned with, to abort, before stable has shown any (`longest_run`)."""
LATER_GROWS = 1.5
"""Of a session's later requests the 1st, 2nd, 3rd, 5th, 8th ... counts: ten of them reach to the 62nd."""
MOST_SESSIONS = 100_000
"""Told apart; requests of further ones count one by one."""


@dataclass(slots=True)
class _Block:
    """The requests of a session, or one request without."""

    n: int = 0
    seen: int = 0
    due: int = 1  # the next one that counts
    last: bool = False
    next_hit: bool = False  # how the block behind it begins


class Clusters:
    """All that bounds need to know, kept up request by request along chains (one per gateway) of blocks.

    Of a session the first ones count, or where `grows` is more than 1 ones that are further and further apart.
    """

    def __init__(self, grows: float = 1.0) -> None:
        self._grows = grows
        self.n = self.hits = self._runs = 0
        self._blocks: dict[tuple[str, str], _Block] = {}
        self._tails: dict[str, _Block] = {}

    def see(self, chain: str, session: str | None, hit: bool) -> bool:
        """Count a request; return False where its session has counted often enough."""
        block = None if session is None else self._blocks.get((chain, session))
        if block is None:
            block = self._begin(chain, session, hit)
        elif block.n >= MOST_OF_A_SESSION or block.seen + 1 < block.due:
            block.seen += 1
            return False
        else:
            self._runs += hit and not block.last
            self._runs += block.next_hit and block.last and not hit  # it ends before the block behind it begins one
            self._runs -= block.next_hit and hit and not block.last  # it goes on into that
        block.n, block.seen, block.last = block.n + 1, block.seen + 1, hit
        block.due = max(block.seen + 1, math.ceil(self._grows * block.seen))
        self.n += 1
        self.hits += hit
        return True

    def runs(self) -> Runs:
        return Runs(runs=self._runs, open=sum(tail.last for tail in self._tails.values()))

    def _begin(self, chain: str, session: str | None, hit: bool) -> _Block:
        before, block = self._tails.get(chain), _Block()
        self._runs += hit and not (before is not None and before.last)
        if before is not None:
            before.next_hit = hit
        if session is not None and len(self._blocks) < MOST_SESSIONS:
            self._blocks[chain, session] = block
        self._tails[chain] = block
        return block
