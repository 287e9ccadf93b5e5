"""The GPUs of a model's engines as they were kept: each as it was last told, unless that is stale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from controlplane.adapters.metrics_scrape.samples import GpuSample, SampleStore
from controlplane.domain.engines.engine_metrics import EngineNumber, NumberAt, gpu_number
from controlplane.domain.engines.gpu import EngineGpu


def newest_gpus(samples: SampleStore, model: str, now: datetime, *, stale_after_s: float) -> Sequence[EngineGpu]:
    """Return each GPU as of a moment. Raises Unavailable."""
    kept = samples.gpus_between(model, now - timedelta(seconds=stale_after_s), now)
    return _newest(kept)


def gpu_series(
    samples: SampleStore, model: str, number: EngineNumber, moments: Sequence[datetime], *, stale_after_s: float
) -> Iterator[NumberAt]:
    """Return one number of all GPUs at moments in their order. Raises Unavailable."""
    reach = timedelta(seconds=stale_after_s)
    kept = samples.gpus_between(model, moments[0] - reach, moments[-1]) if moments else ()
    first = last = 0
    for at in moments:
        while last < len(kept) and kept[last].at_s <= at.timestamp():
            last += 1
        while first < last and kept[first].at_s <= (at - reach).timestamp():
            first += 1
        yield NumberAt(at, gpu_number(number, [each.reading for each in _newest(kept[first:last])]))


def _newest(kept: Sequence[GpuSample]) -> Sequence[EngineGpu]:
    """Return the last of each GPU; samples are given the oldest first."""
    found = {(each.engine, each.reading.gpu): each.reading for each in kept}
    return [EngineGpu(engine, reading) for (engine, _), reading in sorted(found.items())]
