"""How late an emulated engine delivered its tokens: then its latencies are the host's, not the model's. Pure."""

from __future__ import annotations

import math
from typing import NamedTuple

_SHARE = 0.99


class LagHistogram(NamedTuple):
    """Tokens delivered since the engine's start by how late they were, wall clock: per upper bound, s, all up to it."""

    bounds_s: tuple[float, ...]  # ascending, the last one infinite
    counts: tuple[float, ...]

    def since(self, before: LagHistogram) -> LagHistogram:
        """Return the tokens delivered after `before` was read."""
        counts = tuple(now - then for now, then in zip(self.counts, before.counts, strict=True))
        return self._replace(counts=counts)

    @property
    def p99_ms(self) -> float:
        """The 99th percentile, ms of wall clock: linear within its bucket, at most the last bound; 0 of no tokens."""
        wanted, below, edge_s = _SHARE * self.counts[-1], 0.0, 0.0
        for bound_s, count in zip(self.bounds_s, self.counts, strict=True):
            if count > 0 and count >= wanted:
                if math.isinf(bound_s):
                    return edge_s * 1e3
                return 1e3 * (edge_s + (bound_s - edge_s) * (wanted - below) / (count - below))
            below, edge_s = count, bound_s
        return 0.0
