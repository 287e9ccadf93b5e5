"""When a run has said enough: a verdict that cannot change any more, or a target that only falls further behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise

from controlplane.domain.report import RequestRecord
from controlplane.domain.rollouts.anytime import miss_ratio_bounds
from controlplane.domain.slo import LatencySlo, misses
from loadtests.send.runner import Progress

ALPHA = 0.05
_BLOCKS = 8
_GROWTH = 2.0


class VerdictWatch:
    """A watch that ends a run once every limit is certainly met or one is certainly missed.

    Certain at 1 − alpha over all looks together (anytime-valid bounds, alpha split among the limits). Requests without
    an answer yet count as misses for "met" and as none for "missed", so that slow ones, which finish last, cannot be
    overlooked.
    """

    def __init__(self, slos: Sequence[LatencySlo], *, alpha: float = ALPHA) -> None:
        self._slos = tuple(slos)
        self._alpha = alpha / max(1, len(self._slos))
        self._misses = [0] * len(self._slos)
        self._seen = 0
        self._saturation = SaturationDetector()

    def __call__(self, progress: Progress) -> str | None:
        """Return the reason to stop, if there is one."""
        for record in progress.records[self._seen :]:
            self._count(record)
        self._seen = len(progress.records)
        verdicts = [self._verdict(number, progress.in_flight) for number in range(len(self._slos))]
        for slo, verdict in zip(self._slos, verdicts, strict=True):
            if verdict is False:
                return f"certainly misses {slo}"
        if verdicts and all(verdicts):
            return "certainly meets every limit"
        if self._saturation.grows(progress.elapsed_s, progress.in_flight):
            return "over-saturated: the requests in flight keep growing"
        return None

    def _count(self, record: RequestRecord) -> None:
        for number, slo in enumerate(self._slos):
            self._misses[number] += misses(record, slo)

    def _verdict(self, number: int, in_flight: int) -> bool | None:
        """True: met for certain; False: missed for certain."""
        allowed = self._slos[number].allowed_miss_ratio
        total, missed = self._seen + in_flight, self._misses[number]
        if miss_ratio_bounds(missed, total, self._alpha)[0] > allowed:
            return False
        return True if miss_ratio_bounds(missed + in_flight, total, self._alpha)[1] <= allowed else None


class SaturationDetector:
    """Says when a queue grows without end.

    The run so far is cut into eight equal stretches of time; a target that keeps up has stretches in any order of their
    mean requests in flight, one that does not has them rising. Fires when all eight rise and the last has twice the
    first: by chance alone that happens in less than one of 8! = 40,320 exchangeable runs (queues are not quite
    exchangeable; the measured rate of false alarms stands in the tests).
    """

    def __init__(self, *, every_s: float = 0.5, shortest_s: float = 8.0) -> None:
        self._every_s, self._shortest_s = every_s, shortest_s
        self._looks: deque[tuple[float, int]] = deque(maxlen=4096)

    def grows(self, elapsed_s: float, in_flight: int) -> bool:
        """Take one look; say whether the queue grows."""
        if self._looks and elapsed_s - self._looks[-1][0] < self._every_s:
            return False
        self._looks.append((elapsed_s, in_flight))
        first_s = self._looks[0][0]
        if elapsed_s - first_s < self._shortest_s or len(self._looks) < 2 * _BLOCKS:
            return False
        means = self._means(first_s, elapsed_s)
        rising = all(earlier < later for earlier, later in pairwise(means))
        return rising and means[-1] >= _GROWTH * max(means[0], 1.0)

    def _means(self, first_s: float, last_s: float) -> list[float]:
        sums, counts = [0.0] * _BLOCKS, [0] * _BLOCKS
        for at_s, in_flight in self._looks:
            block = min(_BLOCKS - 1, int(_BLOCKS * (at_s - first_s) / (last_s - first_s)))
            sums[block] += in_flight
            counts[block] += 1
        return [total / max(1, count) for total, count in zip(sums, counts, strict=True)]
