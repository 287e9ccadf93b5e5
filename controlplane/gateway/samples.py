"""Sampled answers of A/B tests until the controller takes them for the judge: in memory, few, for a minute."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from controlplane.domain.door.judging import Sample

MOST_KEPT = 200
KEPT_S = 60.0


class _Kept(NamedTuple):
    until: float
    test: str
    sample: Sample


@dataclass
class Samples:
    """Belongs to one event loop. What nobody takes within `kept_s` is forgotten; what has no room is counted."""

    kept_s: float = KEPT_S
    _kept: deque[_Kept] = field(default_factory=deque, repr=False)
    _dropped: Counter[str] = field(default_factory=Counter)

    def keep(self, test: str, sample: Sample) -> None:
        if len(self._kept) >= MOST_KEPT:
            self._dropped[test] += 1
            return
        loop = asyncio.get_running_loop()
        self._kept.append(_Kept(loop.time() + self.kept_s, test, sample))
        loop.call_later(self.kept_s, self._forget)

    def take(self, test: str, most: int) -> tuple[Sequence[Sample], int]:
        """Return the oldest samples of a test, which are here no longer, and how many were dropped since."""
        taken = [each for each in self._kept if each.test == test][:most]
        gone = set(map(id, taken))
        self._kept = deque(each for each in self._kept if id(each) not in gone)
        return [each.sample for each in taken], self._dropped.pop(test, 0)

    def _forget(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._kept and self._kept[0].until <= now:
            self._dropped[self._kept.popleft().test] += 1
