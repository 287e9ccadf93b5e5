"""/metrics under vLLM's names (vllm/v1/metrics/loggers.py), cheap enough to feed with every token.

Seconds are emulated seconds of the time-lapse clock, so they agree with what a client sees times the time-lapse.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from controlplane.domain.engines.gpu import DcgmName, to_dcgm
from controlplane.emulator.card import Card

_TTFT = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
    *(160.0, 640.0, 2560.0),
)
_ITL = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_LATENCY = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0),
    *(1920.0, 7680.0),
)
_ITERATION = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_LAG = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 1.0, 2.0, 5.0, 10.0)
_FINISHES = ("stop", "length", "abort", "error")


class Histogram:
    """Counts per bucket; `observe` is a bisection."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self.sum = 0.0
        self.count = 0

    def observe(self, value: float, times: int = 1) -> None:
        self._counts[bisect_left(self._bounds, value)] += times
        self.sum += value * times
        self.count += times

    def buckets(self) -> list[tuple[str, float]]:
        """Return cumulative counts under the text of each upper bound."""
        total, found = 0, []
        for bound, count in zip((*map(float, self._bounds), float("inf")), self._counts, strict=True):
            total += count
            found.append(("+Inf" if bound == float("inf") else str(bound), float(total)))
        return found


class EngineMetrics(Collector):
    """All numbers of one emulated engine. Attributes are written by the live engine, read by a scrape."""

    def __init__(
        self, model: str, max_model_len: int, info: dict[str, str], cache: dict[str, str], card: Card | None = None
    ) -> None:
        self._labels = {"model_name": model, "engine": "0"}
        self._max_model_len, self._info, self._cache, self._card = max_model_len, info, cache, card
        self.running = 0
        self.waiting = 0
        self.sleep_level = 0
        self.kv_usage = 0.0
        self.busy_share = self.leaked = 0.0
        self.preemptions = 0
        self.prefix_queries = 0
        self.prefix_hits = 0
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.finished = dict.fromkeys(_FINISHES, 0)
        tokens = _one_two_five(max_model_len)
        self.iteration_tokens = Histogram(_ITERATION)
        self.request_prompt_tokens = Histogram(tokens)
        self.request_generation_tokens = Histogram(tokens)
        self.request_max_tokens = Histogram(tokens)
        self.ttft_s = Histogram(_TTFT)
        self.itl_s = Histogram(_ITL)
        self.tpot_s = Histogram(_ITL)
        self.e2e_s = Histogram(_LATENCY)
        self.decode_s = Histogram(_LATENCY)
        self.lag_wall_s = Histogram(_LAG)
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    def blank(self) -> EngineMetrics:
        """Return what an engine with broken metrics says: the right names, every number zero."""
        return EngineMetrics(self._labels["model_name"], self._max_model_len, self._info, self._cache)

    def text(self) -> bytes:
        """Return the exposition text, the same format vLLM answers with."""
        return generate_latest(self.registry)

    def collect(self) -> Iterable[Metric]:
        yield from self._gauges()
        yield from self._counters()
        yield from self._histograms()
        yield from self._gpus()

    def _gauges(self) -> Iterable[Metric]:
        yield self._gauge("num_requests_running", "Number of requests in model execution batches.", self.running)
        yield self._gauge("num_requests_waiting", "Number of requests waiting to be processed.", self.waiting)
        yield self._gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", self.kv_usage)
        yield self._sleep_state()
        yield self._info_gauge("vllm:cache_config_info", "Information of the LLMEngine CacheConfig", self._cache)
        yield self._info_gauge("fleetune:emulator_info", "This engine is emulated; what it stands for.", self._info)

    def _sleep_state(self) -> Metric:
        text = "Engine sleep state: awake, weights_offloaded (level 1) or discard_all (level 2)."
        family = GaugeMetricFamily("vllm:engine_sleep_state", text, labels=[*self._labels, "sleep_state"])
        for level, state in enumerate(("awake", "weights_offloaded", "discard_all")):
            family.add_metric([*self._labels.values(), state], float(self.sleep_level == level))
        return family

    def _counters(self) -> Iterable[Metric]:
        yield self._counter("num_preemptions", "Cumulative number of preemptions.", self.preemptions)
        yield self._counter("prompt_tokens", "Number of prefill tokens processed.", self.prompt_tokens)
        yield self._counter("generation_tokens", "Number of generation tokens processed.", self.generation_tokens)
        yield self._counter("prefix_cache_queries", "Prefix cache queries, in tokens.", self.prefix_queries)
        yield self._counter("prefix_cache_hits", "Prefix cache hits, in tokens.", self.prefix_hits)
        names = [*self._labels, "finished_reason"]
        success = CounterMetricFamily("vllm:request_success", "Count of successfully processed requests.", labels=names)
        for reason, count in self.finished.items():
            success.add_metric([*self._labels.values(), reason], count)
        yield success

    def _histograms(self) -> Iterable[Metric]:
        for name, text, histogram in (
            ("iteration_tokens_total", "Histogram of number of tokens per engine_step.", self.iteration_tokens),
            ("request_prompt_tokens", "Number of prefill tokens processed.", self.request_prompt_tokens),
            ("request_generation_tokens", "Number of generation tokens processed.", self.request_generation_tokens),
            ("request_params_max_tokens", "Histogram of the max_tokens request parameter.", self.request_max_tokens),
            ("time_to_first_token_seconds", "Histogram of time to first token in seconds.", self.ttft_s),
            ("inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", self.itl_s),
            ("request_time_per_output_token_seconds", "Time per output token of a request in seconds.", self.tpot_s),
            ("e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", self.e2e_s),
            ("request_decode_time_seconds", "Histogram of time spent in DECODE phase for request.", self.decode_s),
        ):
            yield self._histogram(f"vllm:{name}", text, histogram)
        yield self._histogram(
            "fleetune:emulator_lag_seconds", "How late steps were delivered, wall clock.", self.lag_wall_s
        )

    def _gpus(self) -> Iterable[Metric]:
        """A DCGM exporter's names. A broken page says nothing of GPUs rather than zero."""
        asleep = self.sleep_level > 0
        readings = [] if self._card is None else self._card.readings(self.busy_share, asleep=asleep, leaked=self.leaked)
        told = {each.gpu: to_dcgm(each) for each in readings}
        for name in DcgmName:
            family = GaugeMetricFamily(name.value, "As the DCGM exporter tells it; emulated.", labels=["gpu"])
            for gpu in [each for each, numbers in told.items() if name in numbers]:
                family.add_metric([gpu], told[gpu][name])
            if family.samples:
                yield family

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"vllm:{name}", text, labels=list(self._labels))
        family.add_metric(list(self._labels.values()), value)
        return family

    def _info_gauge(self, name: str, text: str, labels: dict[str, str]) -> Metric:
        every = {**labels, "engine": "0"}
        family = GaugeMetricFamily(name, text, labels=list(every))
        family.add_metric(list(every.values()), 1)
        return family

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(f"vllm:{name}", text, labels=list(self._labels))
        family.add_metric(list(self._labels.values()), value)
        return family

    def _histogram(self, name: str, text: str, histogram: Histogram) -> Metric:
        family = HistogramMetricFamily(name, text, labels=list(self._labels))
        family.add_metric(list(self._labels.values()), buckets=histogram.buckets(), sum_value=histogram.sum)
        return family


def _one_two_five(largest: int) -> list[int]:
    """Bounds 1, 2, 5, 10, 20, 50, … up to `largest` (vLLM's build_1_2_5_buckets)."""
    every = (mantissa * 10**exponent for exponent in range(12) for mantissa in (1, 2, 5))
    return [bound for bound in every if bound <= largest]
