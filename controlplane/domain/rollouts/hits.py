"""One kind of hit, counted request by request along its chains (one per gateway)."""

from __future__ import annotations

from collections.abc import Hashable

from controlplane.domain.rollouts.bursts import Runs


class Hits:
    """All that bounds need to know: how many, in how many runs, of which so many are open."""

    def __init__(self) -> None:
        self.n = self.hits = self._runs = 0
        self._in_run: dict[Hashable, bool] = {}

    def see(self, chain: Hashable, hit: bool) -> None:
        self.n += 1
        self.hits += hit
        self._runs += hit and not self._in_run.get(chain, False)
        self._in_run[chain] = hit

    def runs(self) -> Runs:
        return Runs(runs=self._runs, open=sum(self._in_run.values()))
