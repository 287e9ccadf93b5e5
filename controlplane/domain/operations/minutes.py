"""What became of a service's promises, minute by minute for six hours: small, and exact to one request. Pure.

Counted from request records, so a process that begins anew knows what one before it knew.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from controlplane.domain.door.latency_buckets import BUCKETS_S
from controlplane.domain.door.outcomes import REFUSED, Outcome, finished_at, read_outcome
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.service import ServiceSpec
from controlplane.domain.slo import LatencyMetric

KEPT_S = 6 * 3600
MINUTE_S = 60
_BOUNDS_S = BUCKETS_S[LatencyMetric.TTFT]
_SILENT = REFUSED | {Outcome.LEFT_EARLY}
"""They say nothing about a promise."""


class Kept(NamedTuple):
    """Requests that a promise was made to, and those it was broken to."""

    asked: int
    missed: int

    @property
    def ratio(self) -> float | None:
        return self.missed / self.asked if self.asked else None


@dataclass
class Minutes:
    """One service's. Windows are wall-clock seconds up to now, in whole minutes."""

    spec: ServiceSpec
    _kept: defaultdict[int, dict[str, list[int]]] = field(default_factory=lambda: defaultdict(dict))
    _ttft: defaultdict[int, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0] * (len(_BOUNDS_S) + 1)))

    def add(self, records: Iterable[GatewayRecord]) -> None:
        """Count what users asked; attempts that were made again elsewhere and our own replays are no requests."""
        for record in records:
            if not record.replayed and not record.retried:
                self._add(record)

    def kept(self, promise: str, window_s: float, now: datetime) -> Kept:
        """Return how a promise was kept within a window that ends now."""
        told = [self._kept[each].get(promise, (0, 0)) for each in self._within(self._kept, window_s, now)]
        return Kept(sum(asked for asked, _ in told), sum(missed for _, missed in told))

    def ttft(self, rank: float, window_s: float, until: datetime) -> tuple[float | None, int]:
        """Return a quantile of the time to first token, seconds of engine time, by buckets, and of how many."""
        counts = [0] * (len(_BOUNDS_S) + 1)
        for minute in self._within(self._ttft, window_s, until):
            counts = [total + more for total, more in zip(counts, self._ttft[minute], strict=True)]
        return _quantile(rank, counts), sum(counts)

    def forget(self, now: datetime) -> None:
        """Drop what is older than the longest window."""
        oldest = _minute(now) - KEPT_S // MINUTE_S
        for of in (self._kept, self._ttft):
            for minute in [each for each in of if each < oldest]:
                del of[minute]

    def _within(self, of: Iterable[int], window_s: float, until: datetime) -> list[int]:
        last = _minute(until)
        return [each for each in of if last - window_s / MINUTE_S < each <= last]

    def _add(self, record: GatewayRecord) -> None:
        slos, minute = self.spec.slos.latency, _minute(finished_at(record))
        reading = read_outcome(record, slos, time_lapse=self.spec.engine.time_lapse)
        if reading.outcome in _SILENT:
            return
        failed = reading.outcome in (Outcome.FAILED, Outcome.INFRASTRUCTURE)
        judged = {str(slo): slo in reading.missed for slo in slos if slo not in reading.untold}
        for promise, missed in {**judged, error_promise(self.spec): failed}.items():
            counts = self._kept[minute].setdefault(promise, [0, 0])
            counts[0] += 1
            counts[1] += missed
        if reading.ttft_ms is not None:
            self._ttft[minute][bisect_left(_BOUNDS_S, reading.ttft_ms / 1000)] += 1


def error_promise(spec: ServiceSpec) -> str:
    """Return what the promise about failed requests is called."""
    return f"errors ≤ {spec.slos.max_error_ratio:g}"


def promises(spec: ServiceSpec) -> dict[str, float]:
    """Return every promise of a service with the share that may miss it."""
    latency = {str(slo): slo.allowed_miss_ratio for slo in spec.slos.latency}
    return {**latency, error_promise(spec): spec.slos.max_error_ratio}


def _minute(at: datetime) -> int:
    return math.floor(at.timestamp() / MINUTE_S)


def _quantile(rank: float, counts: list[int]) -> float | None:
    """Linear within its bucket, as Prometheus does it; the largest bound when it lies beyond all."""
    wanted, below = rank * sum(counts), 0
    if not wanted:
        return None
    for index, count in enumerate(counts[:-1]):
        if below + count >= wanted:
            start = _BOUNDS_S[index - 1] if index else 0.0
            return start + (_BOUNDS_S[index] - start) * (wanted - below) / count
        below += count
    return _BOUNDS_S[-1]
