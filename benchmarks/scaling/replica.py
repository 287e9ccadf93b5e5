"""What one replica does at a steady rate, from the twin: share of misses, crowd and waiting requests."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.hardware import GpuPool
from controlplane.domain.operations.replica_capacity import ReplicaCapacity, foretold
from controlplane.domain.service import EngineOptions, ModelSpec, ServiceSpec
from controlplane.domain.slo import LatencyMetric, LatencySlo, SloSet
from controlplane.domain.workload import TraceWorkload
from controlplane.services.studies.forecast import workload_at
from tuner.twin.predict import capacity, latencies_s
from tuner.twin.setup import EngineSetup, resolve
from tuner.twin.shapes import load_shape
from tuner.twin.simulate import simulate

Floats = NDArray[np.float64]
STARTUP_S = 90.0
_RATES = 24
_WINDOW_S = 120.0
_BEYOND = 1.6  # of the capacity: from there on it is a queue, not a rate

SPEC = ServiceSpec(
    name="conv",
    model=ModelSpec(name="llama-8b", path="llama-8b"),
    engine=EngineOptions(kind=EngineKind.VLLM, flags={"max-model-len": 8192, "enable-prefix-caching": False}),
    gpus=GpuPool(type="H200", count=1024, price_usd_per_gpu_hour=3.5),
    workload=TraceWorkload(trace="azure-llm-2023/conv", rate_rps=20, seed=11),
    slos=SloSet(
        latency=(
            LatencySlo(metric=LatencyMetric.TTFT, percentile=99, limit_ms=500),
            LatencySlo(metric=LatencyMetric.TPOT, percentile=99, limit_ms=40),
        ),
        target_qps=24,
    ),
)


class Replica(NamedTuple):
    """Curves over `rates_rps`, and the capacity model that policies are given."""

    capacity: ReplicaCapacity
    rates_rps: Floats
    miss_share: Floats
    crowd: Floats
    waiting: Floats
    most_rps: float  # what it finishes when more than it can serve is asked of it

    def missed(self, rate_rps: float) -> float:
        """Return the share of requests that miss a limit at a steady rate."""
        return float(np.interp(rate_rps, self.rates_rps, self.miss_share))


def replica(*, seed: int) -> Replica:
    """Return the curves of a Llama-3.1-8B shape on one H200 under the conversation trace's lengths."""
    setup = resolve(load_shape(SPEC.model.path), SPEC.gpus.type, EngineConfig(flags=SPEC.engine.flags))
    requests_at = workload_at(SPEC, seed=seed, duration_s=_WINDOW_S)
    found = capacity(setup, requests_at, SPEC.slos.latency, start_rps=10.0, bounds=True)
    rates = np.concatenate([[0.0], np.linspace(0.2, _BEYOND, _RATES) * found.rps])
    points = [_point(setup, seed, rate) for rate in rates[1:]]
    misses, crowds, waits, done = (np.array(each) for each in zip(*points, strict=True))
    sample = requests_at(found.rps)
    model = foretold(
        found,
        prompt_tokens=float(sample.prompt_tokens.mean()),
        output_tokens=float(sample.output_tokens.mean()),
        kv_usage=None,
        e2e_s=float(np.interp(found.rps, rates[1:], crowds)) / found.rps,
    )
    return Replica(
        capacity=model,
        rates_rps=rates,
        miss_share=np.maximum.accumulate(np.concatenate([[0.0], misses])),
        crowd=np.concatenate([[0.0], crowds]),
        waiting=np.concatenate([[0.0], waits]),
        most_rps=float(done.max()),
    )


def _point(setup: EngineSetup, seed: int, rate_rps: float) -> tuple[float, float, float, float]:
    """Return share of misses, mean crowd, mean waiting requests and finished requests/s at one rate."""
    requests = workload_at(SPEC, seed=seed, duration_s=_WINDOW_S)(rate_rps)
    result = simulate(setup, requests)
    metrics = latencies_s(result)
    missed = np.zeros(len(requests.scheduled_s), dtype=bool)
    for slo in SPEC.slos.latency:
        missed |= metrics[slo.metric] * 1e3 > slo.limit_ms
    rate = len(missed) / float(requests.scheduled_s[-1] - requests.scheduled_s[0])
    waits_s = result.ttft_s - np.quantile(result.ttft_s, 0.05)
    span_s = float(np.max(requests.scheduled_s + result.e2e_s))
    return (
        float(missed.mean()),
        rate * float(result.e2e_s.mean()),
        rate * float(np.maximum(waits_s, 0).mean()),
        len(missed) / span_s,
    )
