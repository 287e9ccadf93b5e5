"""MetricsSource on a Prometheus that scrapes the engines: by the names of every kind that labels its model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from requests import Session
from requests.adapters import HTTPAdapter
from requests.exceptions import RequestException

from controlplane.domain.engines.driver import MetricNames
from controlplane.domain.engines.engine_metrics import EngineNumber, EngineNumbers, NumberAt
from controlplane.domain.engines.gpu import DcgmName, EngineGpu, from_dcgm
from controlplane.domain.engines.kinds.vllm import VLLM
from controlplane.domain.errors import Unavailable
from controlplane.ports import Clock

T = TypeVar("T")
TIMEOUT_S = 10
STALE_AFTER_S = 60.0
"""Four scrapes of the usual 15 s. Prometheus itself shows a sample for five minutes after the last scrape."""


def queries_of(names: MetricNames) -> Mapping[EngineNumber, str]:
    """Return how Prometheus is asked for what engines with these metrics tell; `{model}` is still to be filled in."""
    told = {
        EngineNumber.TTFT_P99_MS: _p99_ms(names.ttft_s),
        EngineNumber.TPOT_P99_MS: _p99_ms(names.tpot_s),
        EngineNumber.WAITING: _all("sum({})", names.waiting),
        EngineNumber.RUNNING: _all("sum({})", names.running),
        EngineNumber.PREEMPTIONS_PER_S: _all("sum(rate({}[1m]))", names.preemptions),
        EngineNumber.KV_USAGE_PERCENT: _all("100 * max({})", names.kv_usage),
    }
    return {number: query for number, query in told.items() if query is not None}


def gpus_query(name: DcgmName, running: str, stale_after_s: float) -> str:
    """Return how one number of the GPUs of a model's engines is asked for; `{model}` is still to be filled in.

    The page that tells it is an engine's (emulated ones) or the control plane's, labelled with the engine; or a DCGM
    exporter's, labelled with the pod, as the engine's own page is.
    """
    of_engine, of_pod = (_fresh(name, where, stale_after_s) for where in ('engine!=""', 'engine="",pod!=""'))
    by_engine = f"max by (engine, gpu) ({of_engine}) and on (engine) {running}{{model}}"
    in_pods = f'group by (pod, engine) ({running}{{model}} unless {running}{{pod=""}})'
    return f"({by_engine}) or (max by (pod, gpu) ({of_pod}) * on (pod) group_left (engine) {in_pods})"


def gpu_queries(running: str, stale_after_s: float) -> Mapping[EngineNumber, str]:
    """Return how the numbers of all GPUs of a model together are asked for; `{model}` is still to be filled in."""
    busy, power, used, free = (
        f"({gpus_query(name, running, stale_after_s)})"
        for name in (DcgmName.UTILISATION_PERCENT, DcgmName.POWER_W, DcgmName.USED_MIB, DcgmName.FREE_MIB)
    )
    return {
        EngineNumber.GPU_PERCENT: f"avg({busy})",
        EngineNumber.GPU_POWER_W: f"sum({power})",
        EngineNumber.GPU_MEMORY_PERCENT: f"100 * max({used} / ({used} + {free}))",
    }


def _fresh(name: DcgmName, where: str, stale_after_s: float) -> str:
    asked = f"{name.value}{{{where}}}"
    return f"{asked} and time() - timestamp({asked}) <= {stale_after_s:g}"


def _p99_ms(histogram: str | None) -> str | None:
    asked = None if histogram is None else f"{histogram}_bucket"
    return _all("1000 * histogram_quantile(0.99, sum by (le) (rate({}[1m])))", asked)


def _all(around: str, metric: str | None) -> str | None:
    return None if metric is None else around.format(metric + "{model}")


class PrometheusMetrics:
    """Reads with instant and range queries at the clock's time. Asked directly, never through a proxy."""

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        names: MetricNames = VLLM.metrics,
        stale_after_s: float = STALE_AFTER_S,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        session = Session()
        session.trust_env = False
        self._prometheus = PrometheusConnect(url.rstrip("/"), session=session, timeout=timeout_s)
        session.mount(url.rstrip("/"), HTTPAdapter())  # no retries: whoever asks decides whether to ask again
        self._url = url
        self._clock = clock
        self._stale_after_s = stale_after_s
        self._label = names.model_label
        self._queries: dict[EngineNumber, str] = {}
        if names.model_label is not None and names.running is not None:
            self._queries = {**queries_of(names), **gpu_queries(names.running, stale_after_s)}
        self._running = names.running
        self._last_scrape = _all("max(timestamp({}))", names.running)

    def read(self, model: str) -> EngineNumbers:
        """See `ports.MetricsSource.read`."""
        now = self._clock()
        scraped_s = self._instant(self._last_scrape, model, now)
        if scraped_s is None or now.timestamp() - scraped_s > self._stale_after_s:
            return EngineNumbers(model=model, at=now)
        told = {number: self._instant(query, model, now) for number, query in self._queries.items()}
        return EngineNumbers(
            model=model, at=now, **{each.value: _possible(each, value) for each, value in told.items()}
        )

    def gpus(self, model: str) -> Sequence[EngineGpu]:
        """See `ports.MetricsSource.gpus`. GPUs are found by the engine that tells of them, or by its pod."""
        told: dict[tuple[str, str], dict[str, float]] = {}
        for name in DcgmName:
            for labels, value in self._of_gpus(name, model):
                told.setdefault((labels.get("engine", labels.get("pod", "")), labels["gpu"]), {})[name] = value
        return [EngineGpu(engine, from_dcgm(gpu, numbers)) for (engine, gpu), numbers in sorted(told.items())]

    def _of_gpus(self, name: DcgmName, model: str) -> Sequence[tuple[Mapping[str, str], float]]:
        now = self._clock()
        template = None if self._running is None else gpus_query(name, self._running, self._stale_after_s)
        query, at = self._query(template, model), {"time": now.timestamp()}
        rows = [] if query is None else self._asked(lambda: self._prometheus.custom_query(query, params=at))
        found = [(row["metric"], _number(row["value"][1])) for row in rows]
        return [(labels, value) for labels, value in found if value is not None and value >= 0 and "gpu" in labels]

    def series(
        self, model: str, number: EngineNumber, *, since: datetime, until: datetime, step_s: float
    ) -> Sequence[NumberAt]:
        """See `ports.MetricsSource.series`."""
        query = self._query(self._queries.get(number), model)
        rows = (
            []
            if query is None
            else self._asked(lambda: self._prometheus.custom_query_range(query, since, until, f"{step_s:g}"))
        )
        known = {float(at): _number(value) for row in rows for at, value in row["values"]}
        steps = int((until - since).total_seconds() / step_s) + 1
        moments = (since + timedelta(seconds=step_s * each) for each in range(steps))
        return [NumberAt(at, _possible(number, known.get(float(round(at.timestamp()))))) for at in moments]

    def _instant(self, template: str | None, model: str, now: datetime) -> float | None:
        query, at = self._query(template, model), {"time": now.timestamp()}
        rows = [] if query is None else self._asked(lambda: self._prometheus.custom_query(query, params=at))
        return _number(rows[0]["value"][1]) if rows else None

    def _query(self, template: str | None, model: str) -> str | None:
        """Return a query about one model; None when these engines do not tell it, or not of which model it is."""
        if template is None or self._label is None:
            return None
        quoted = model.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return template.replace("{model}", f'{{{self._label}="{quoted}"}}')

    def _asked(self, ask: Callable[[], Any]) -> Any:
        """Translate whatever goes wrong on the way, or in an answer that is not Prometheus's, into one error."""
        try:
            return ask()
        except (RequestException, PrometheusApiClientException, ValueError, KeyError, TypeError) as error:
            why = " ".join(str(error).split())[:200] or type(error).__name__
            raise Unavailable(f"no answer from Prometheus at {self._url}", why=why) from error


def _number(text: str) -> float | None:
    """Return a number of Prometheus; None for NaN (no request in the window) and for infinities."""
    value = float(text)
    return value if math.isfinite(value) else None


def _possible(number: EngineNumber, value: float | None) -> float | None:
    """Return a number that can be true: nobody waits in fewer than no engines, and what is full is full."""
    if value is None or value < 0:
        return None
    return min(100.0, value) if number.value.endswith("_percent") else value
