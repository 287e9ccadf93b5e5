"""MetricsSource on the local store of scraped samples, with Prometheus's meaning of a quantile and of a reset."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from controlplane.adapters.metrics_scrape.gpus import gpu_series, newest_gpus
from controlplane.adapters.metrics_scrape.page import Buckets
from controlplane.adapters.metrics_scrape.samples import Sample, SampleStore
from controlplane.domain.engines.engine_metrics import (
    GPU_NUMBERS,
    EngineNumber,
    EngineNumbers,
    NumberAt,
    gpu_number,
)
from controlplane.domain.engines.gpu import EngineGpu
from controlplane.ports import Clock

STALE_AFTER_S = 60.0
"""Four looks. An engine that has not answered for so long is not what it last said."""
WINDOW_S = 60.0
_TOGETHER_S = 900.0


class ScrapedMetrics:
    """Reads what `Scraper` kept, from whatever process."""

    def __init__(self, samples: SampleStore, *, clock: Clock, stale_after_s: float = STALE_AFTER_S) -> None:
        self._samples = samples
        self._clock = clock
        self._stale_after_s = stale_after_s

    def read(self, model: str) -> EngineNumbers:
        """See `ports.MetricsSource.read`."""
        now = self._clock()
        samples = _by_engine(self._samples.between(model, now - self._reach, now))
        found = {number.value: self._at(samples, number, now) for number in EngineNumber if number not in GPU_NUMBERS}
        gpus = self.gpus(model)
        of_gpus = {number.value: gpu_number(number, [each.reading for each in gpus]) for number in GPU_NUMBERS}
        return EngineNumbers(model=model, at=now, **found, **of_gpus)

    def gpus(self, model: str) -> Sequence[EngineGpu]:
        """See `ports.MetricsSource.gpus`."""
        return newest_gpus(self._samples, model, self._clock(), stale_after_s=self._stale_after_s)

    def series(
        self, model: str, number: EngineNumber, *, since: datetime, until: datetime, step_s: float
    ) -> Sequence[NumberAt]:
        """See `ports.MetricsSource.series`."""
        histograms = number in (EngineNumber.TTFT_P99_MS, EngineNumber.TPOT_P99_MS)
        steps = int((until - since).total_seconds() / step_s) + 1
        moments = [since + timedelta(seconds=step_s * each) for each in range(steps)]
        if number in GPU_NUMBERS:
            return list(gpu_series(self._samples, model, number, moments, stale_after_s=self._stale_after_s))
        # A part at a time: a day of twenty engines' histograms is a quarter of a GiB once it is unpacked.
        together = max(1, int(_TOGETHER_S / step_s)) if step_s < self._reach.total_seconds() else 1
        found: list[NumberAt] = []
        for first in range(0, steps, together):
            part = moments[first : first + together]
            kept = self._samples.between(model, part[0] - self._reach, part[-1], histograms=histograms)
            samples = _by_engine(kept)
            found += [NumberAt(at, self._at(samples, number, at)) for at in part]
        return found

    @property
    def _reach(self) -> timedelta:
        return timedelta(seconds=max(self._stale_after_s, WINDOW_S))

    def _at(self, samples: Mapping[str, Sequence[Sample]], number: EngineNumber, at: datetime) -> float | None:
        at_s = at.timestamp()
        last = [found for each in samples.values() if (found := self._last(each, at_s)) is not None]
        match number:
            case EngineNumber.RUNNING:
                return _sum([each.page.running for each in last])
            case EngineNumber.WAITING:
                return _sum([each.page.waiting for each in last])
            case EngineNumber.KV_USAGE_PERCENT:
                usages = [each.page.kv_usage for each in last if each.page.kv_usage is not None]
                return min(100.0, 100 * max(usages)) if usages else None
            case EngineNumber.PREEMPTIONS_PER_S:
                return _per_s([_within(mine, at_s) for mine in samples.values()])
            case EngineNumber.TTFT_P99_MS:
                return _p99_ms([[each.page.ttft_s for each in _within(mine, at_s)] for mine in samples.values()])
            case EngineNumber.TPOT_P99_MS:
                return _p99_ms([[each.page.tpot_s for each in _within(mine, at_s)] for mine in samples.values()])
            case EngineNumber.GPU_PERCENT | EngineNumber.GPU_MEMORY_PERCENT | EngineNumber.GPU_POWER_W:
                raise AssertionError(f"{number} is kept elsewhere")

    def _last(self, samples: Sequence[Sample], at_s: float) -> Sample | None:
        index = bisect_right(samples, at_s, key=_moment) - 1
        fresh = index >= 0 and at_s - samples[index].at_s <= self._stale_after_s
        return samples[index] if fresh else None


def quantile(rank: float, bounds: Sequence[float], counts: Sequence[float]) -> float | None:
    """Return a quantile of cumulative counts as Prometheus's histogram_quantile does; None without any.

    Linear within a bucket, from 0 in the first; the largest finite bound when it lies beyond.
    """
    if not counts or counts[-1] <= 0:
        return None
    wanted = rank * counts[-1]
    index = next(index for index, count in enumerate(counts) if count >= wanted)
    if math.isinf(bounds[index]):
        return bounds[index - 1] if index else None
    below, start = (counts[index - 1], bounds[index - 1]) if index else (0.0, 0.0)
    share = (wanted - below) / (counts[index] - below) if counts[index] > below else 0.0
    return start + (bounds[index] - start) * share


def increase(samples: Sequence[Buckets]) -> Buckets | None:
    """Return what was added to a histogram from the first sample to the last; None for fewer than two.

    A count that fell was reset by a restart: then all of it is new.
    """
    told = [each for each in samples if each.bounds]
    if len(told) < 2 or any(each.bounds != told[0].bounds for each in told):
        return None
    total = [0] * len(told[0].bounds)
    for before, after in pairwise(told):
        reset = after.counts[-1] < before.counts[-1]
        for index, count in enumerate(after.counts):
            total[index] += count if reset else max(0, count - before.counts[index])
    return Buckets(told[0].bounds, tuple(total))


def _p99_ms(engines: Sequence[Sequence[Buckets]]) -> float | None:
    added = [found for each in engines if (found := increase(each)) is not None]
    same = [each for each in added if each.bounds == added[0].bounds]
    if not same:
        return None
    counts = [sum(column) for column in zip(*(each.counts for each in same), strict=True)]
    seconds = quantile(0.99, same[0].bounds, counts)
    return None if seconds is None else 1e3 * seconds


def _per_s(engines: Sequence[Sequence[Sample]]) -> float | None:
    """Return how fast preemptions are added in all engines; None where none was looked at twice. A reset is a 0."""
    rates = []
    for samples in engines:
        told = [(each.at_s, each.page.preemptions) for each in samples if each.page.preemptions is not None]
        if len(told) >= 2:
            added = sum(now if now < was else now - was for (_, was), (_, now) in pairwise(told))
            rates.append(added / (told[-1][0] - told[0][0]))
    return sum(rates) if rates else None


def _by_engine(samples: Sequence[Sample]) -> Mapping[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for each in samples:
        found.setdefault(each.engine, []).append(each)
    return found


def _within(samples: Sequence[Sample], at_s: float) -> Sequence[Sample]:
    first, last = (bisect_right(samples, moment, key=_moment) for moment in (at_s - WINDOW_S, at_s))
    return samples[first:last]


def _moment(sample: Sample) -> float:
    return sample.at_s


def _sum(values: Sequence[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return sum(known) if known else None
