"""MetricsSource on a Prometheus that scrapes the engines: the names are vLLM's own, which the emulator has too."""

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

from controlplane.domain.engine_metrics import EngineNumber, EngineNumbers, NumberAt
from controlplane.domain.errors import Unavailable
from controlplane.ports import Clock

T = TypeVar("T")
TIMEOUT_S = 10
STALE_AFTER_S = 60.0
"""Four scrapes of the usual 15 s. Prometheus itself shows a sample for five minutes after the last scrape."""


def _p99_ms(histogram: str) -> str:
    return f"1000 * histogram_quantile(0.99, sum by (le) (rate(vllm:{histogram}_bucket{{model}}[1m])))"


QUERIES: Mapping[EngineNumber, str] = {
    EngineNumber.TTFT_P99_MS: _p99_ms("time_to_first_token_seconds"),
    EngineNumber.TPOT_P99_MS: _p99_ms("request_time_per_output_token_seconds"),
    EngineNumber.WAITING: "sum(vllm:num_requests_waiting{model})",
    EngineNumber.RUNNING: "sum(vllm:num_requests_running{model})",
    EngineNumber.KV_USAGE_PERCENT: "100 * max(vllm:kv_cache_usage_perc{model})",
}
_LAST_SCRAPE = "max(timestamp(vllm:num_requests_running{model}))"


class PrometheusMetrics:
    """Reads with instant and range queries at the clock's time. Asked directly, never through a proxy."""

    def __init__(self, url: str, *, clock: Clock, stale_after_s: float = STALE_AFTER_S) -> None:
        session = Session()
        session.trust_env = False
        self._prometheus = PrometheusConnect(url.rstrip("/"), session=session, timeout=TIMEOUT_S)
        session.mount(url.rstrip("/"), HTTPAdapter())  # no retries: whoever asks decides whether to ask again
        self._url = url
        self._clock = clock
        self._stale_after_s = stale_after_s

    def read(self, model: str) -> EngineNumbers:
        """See `ports.MetricsSource.read`."""
        now = self._clock()
        scraped_s = self._instant(_LAST_SCRAPE, model, now)
        if scraped_s is None or now.timestamp() - scraped_s > self._stale_after_s:
            return EngineNumbers(model=model, at=now)
        found = {number.value: self._instant(query, model, now) for number, query in QUERIES.items()}
        return EngineNumbers(model=model, at=now, **found)

    def series(
        self, model: str, number: EngineNumber, *, since: datetime, until: datetime, step_s: float
    ) -> Sequence[NumberAt]:
        """See `ports.MetricsSource.series`."""
        query = _of(QUERIES[number], model)
        rows = self._asked(lambda: self._prometheus.custom_query_range(query, since, until, f"{step_s:g}"))
        known = {float(at): _number(value) for row in rows for at, value in row["values"]}
        steps = int((until - since).total_seconds() / step_s) + 1
        moments = (since + timedelta(seconds=step_s * each) for each in range(steps))
        return [NumberAt(at, known.get(float(round(at.timestamp())))) for at in moments]

    def _instant(self, query: str, model: str, now: datetime) -> float | None:
        at = {"time": now.timestamp()}
        rows = self._asked(lambda: self._prometheus.custom_query(_of(query, model), params=at))
        return _number(rows[0]["value"][1]) if rows else None

    def _asked(self, ask: Callable[[], Any]) -> Any:
        """Translate whatever goes wrong on the way, or in an answer that is not Prometheus's, into one error."""
        try:
            return ask()
        except (RequestException, PrometheusApiClientException, ValueError, KeyError, TypeError) as error:
            why = " ".join(str(error).split())[:200] or type(error).__name__
            raise Unavailable(f"no answer from Prometheus at {self._url}", why=why) from error


def _of(query: str, model: str) -> str:
    quoted = model.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return query.replace("{model}", f'{{model_name="{quoted}"}}')


def _number(text: str) -> float | None:
    """Return a number of Prometheus; None for NaN (no request in the window) and for infinities."""
    value = float(text)
    return value if math.isfinite(value) else None
