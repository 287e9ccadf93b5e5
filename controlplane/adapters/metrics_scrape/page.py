"""Read an engine's Prometheus page: the few numbers that are kept, by the names its driver gives."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from controlplane.domain.engines.driver import MetricNames
from controlplane.domain.engines.gpu import MOST_GPUS, DcgmName, GpuReading, from_dcgm

RESIDENT = "process_resident_memory_bytes"
"""As every official client library of Prometheus calls it."""
MOST_BUCKETS = 64
"""More would be somebody else's histogram: what is kept of an engine has a limit."""


class Buckets(NamedTuple):
    """A histogram's cumulative counts: of requests that took up to each bound, the last bound infinite."""

    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()


class Page(NamedTuple):
    """What one engine said at one moment, its parts together. None and no buckets: it did not say."""

    running: float | None = None
    waiting: float | None = None
    kv_usage: float | None = None
    preemptions: float | None = None  # since the engine started
    ttft_s: Buckets = Buckets()
    tpot_s: Buckets = Buckets()
    gpus: tuple[GpuReading, ...] = ()
    resident_gib: float | None = None


def read_page(text: str, names: MetricNames) -> Page:
    """Return the kept numbers of a page. Raises ValueError when it is no such page."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return Page(
        running=_sum(samples, names.running),
        waiting=_sum(samples, names.waiting),
        kv_usage=max(_values(samples, names.kv_usage), default=None),
        preemptions=_sum(samples, names.preemptions),
        ttft_s=_buckets(samples, names.ttft_s),
        tpot_s=_buckets(samples, names.tpot_s),
        gpus=_gpus(samples),
        resident_gib=None if (held := _sum(samples, RESIDENT)) is None else held / 2**30,
    )


def _gpus(samples: Iterable[Sample]) -> tuple[GpuReading, ...]:
    """Return the GPUs that a page tells of under a DCGM exporter's names; real engines tell of none."""
    told: dict[str, dict[str, float]] = {}
    for each in samples:
        if each.name in set(DcgmName) and math.isfinite(each.value) and each.value >= 0:
            told.setdefault(each.labels.get("gpu", ""), {})[each.name] = each.value
    return tuple(from_dcgm(gpu, numbers) for gpu, numbers in sorted(told.items())[:MOST_GPUS])


def _values(samples: Iterable[Sample], name: str | None) -> list[float]:
    """Return what is told under a name: NaN, infinities and negative numbers say nothing."""
    return [each.value for each in samples if each.name == name and math.isfinite(each.value) and each.value >= 0]


def _sum(samples: Iterable[Sample], name: str | None) -> float | None:
    values = _values(samples, name)
    return sum(values) if values else None


def _buckets(samples: Iterable[Sample], name: str | None) -> Buckets:
    counts: dict[float, float] = {}
    for each in samples:
        if name is not None and each.name == f"{name}_bucket" and math.isfinite(each.value) and each.value >= 0:
            bound = float(each.labels["le"])
            counts[bound] = counts.get(bound, 0.0) + each.value
    bounds = tuple(sorted(counts))
    if not bounds or bounds[-1] != math.inf or len(bounds) > MOST_BUCKETS:
        return Buckets()
    return Buckets(bounds, tuple(int(counts[bound]) for bound in bounds))
