"""The metrics page of another engine: what its driver reads, and nothing that it does not tell."""

from __future__ import annotations

from collections.abc import Iterator

from controlplane.domain.engines.driver import MetricNames
from controlplane.emulator.metrics import EngineMetrics, Histogram


def page(metrics: EngineMetrics, names: MetricNames, model: str) -> str:
    """Return the page in Prometheus's text format."""
    label = "" if names.model_label is None else f'{names.model_label}="{_quoted(model)}"'
    return "".join(f"{line}\n" for line in _lines(metrics, names, label))


def _lines(metrics: EngineMetrics, names: MetricNames, label: str) -> Iterator[str]:
    for name, value in (
        (names.running, metrics.running),
        (names.waiting, metrics.waiting),
        (names.kv_usage, metrics.kv_usage),
        (names.preemptions, metrics.preemptions),
        (names.prompt_tokens, metrics.prompt_tokens),
        (names.generation_tokens, metrics.generation_tokens),
    ):
        if name is not None:
            yield f"{name}{_braced(label)} {value}"
    for histogram, values in ((names.ttft_s, metrics.ttft_s), (names.tpot_s, metrics.tpot_s)):
        if histogram is not None:
            yield from _buckets(histogram, values, label)


def _buckets(name: str, histogram: Histogram, label: str) -> Iterator[str]:
    for bound, count in histogram.buckets():
        below = f'le="{bound}"'
        yield f"{name}_bucket{_braced(label, below)} {count}"
    yield f"{name}_sum{_braced(label)} {histogram.sum}"
    yield f"{name}_count{_braced(label)} {histogram.count}"


def _braced(*labels: str) -> str:
    given = ",".join(label for label in labels if label)
    return f"{{{given}}}" if given else ""


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
