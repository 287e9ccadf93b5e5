"""MetricsSource in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from controlplane.domain.engines.engine_metrics import GPU_NUMBERS, EngineNumber, EngineNumbers, NumberAt, gpu_number
from controlplane.domain.engines.gpu import EngineGpu, GpuReading
from controlplane.ports import Clock


class FakeMetricsSource:
    """Holds what was scraped, and shows it for `stale_after_s` after it was."""

    def __init__(self, clock: Clock, *, stale_after_s: float) -> None:
        self._clock = clock
        self._stale_after_s = stale_after_s
        self._scraped: dict[str, list[EngineNumbers]] = {}
        self._gpus: dict[tuple[str, str, str], tuple[datetime, GpuReading]] = {}

    def scrape(self, numbers: EngineNumbers) -> None:
        """Keep what all engines of a model said at one moment."""
        self._scraped.setdefault(numbers.model, []).append(numbers)

    def tell_gpus(self, model: str, engine: str, at: datetime, *readings: GpuReading) -> None:
        """Keep what the GPUs of one engine said at one moment."""
        for each in readings:
            self._gpus[model, engine, each.gpu] = (at, each)

    def gpus(self, model: str) -> Sequence[EngineGpu]:
        now = self._clock()
        return [
            EngineGpu(engine, reading)
            for (of, engine, _), (at, reading) in sorted(self._gpus.items(), key=lambda each: each[0])
            if of == model and (now - at).total_seconds() <= self._stale_after_s
        ]

    def read(self, model: str) -> EngineNumbers:
        now = self._clock()
        last = self._last(model, now)
        if last is None or (now - last.at).total_seconds() > self._stale_after_s:
            last = EngineNumbers(model=model, at=now)
        readings = [each.reading for each in self.gpus(model)]
        told = {each.value: gpu_number(each, readings) for each in GPU_NUMBERS} if readings else {}
        return last.evolve(at=now, **told)

    def series(
        self, model: str, number: EngineNumber, *, since: datetime, until: datetime, step_s: float
    ) -> Sequence[NumberAt]:
        steps = int((until - since).total_seconds() / step_s) + 1
        moments = [since + timedelta(seconds=step_s * each) for each in range(steps)]
        found = ((at, self._last(model, at)) for at in moments)
        return [NumberAt(at, None if last is None else getattr(last, number.value)) for at, last in found]

    def _last(self, model: str, at: datetime) -> EngineNumbers | None:
        before = [each for each in self._scraped.get(model, []) if each.at <= at]
        return max(before, key=lambda each: each.at, default=None)
