"""What an engine says over HTTP: is it ready, how much is in flight. Never blocks the fleet for long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import httpx

from controlplane.adapters.engine_counts import samples_of
from controlplane.adapters.engine_http import key_headers
from controlplane.domain.engines.driver import Readiness
from controlplane.host.addresses import is_tls
from loadtests.measure.engine_lag import LagHistogram

T = TypeVar("T")

_HEALTH_TIMEOUT_S = 2.0
_ANSWER_TIMEOUT_S = 30.0
_LAG_TIMEOUT_S = 10.0  # one that is late with its page is late with its tokens: it must not count as on time
_LAG = "fleetune:emulator_lag_seconds"


def is_ready(url: str, model: str, key: str | None, readiness: Readiness) -> bool:
    """Say whether an engine is healthy and answers one small real request."""
    headers, verify, timeout = key_headers(key), is_tls(url), _HEALTH_TIMEOUT_S
    with httpx.Client(base_url=url, headers=headers, trust_env=False, verify=verify, timeout=timeout) as client:
        try:
            if client.get(readiness.health_path).status_code != 200:
                return False
            body = {"model": model, **readiness.request}
            answer = client.post(readiness.request_path, json=body, timeout=_ANSWER_TIMEOUT_S)
        except httpx.HTTPError:
            return False
    return answer.status_code == 200


def is_healthy(url: str, *, timeout_s: float) -> bool:
    """Say whether the health check at `url` is answered. A stuck process takes connections and says nothing."""
    try:
        return httpx.get(url, timeout=timeout_s, trust_env=False, verify=is_tls(url)).status_code == 200
    except httpx.HTTPError:
        return False


def emulator_lag(url: str) -> LagHistogram | None:
    """Return how late an emulated engine delivered since its start; None for a real one, or when it does not say."""
    try:
        answer = httpx.get(f"{url}/metrics", timeout=_LAG_TIMEOUT_S, trust_env=False, verify=is_tls(url))
    except httpx.HTTPError:
        return None
    return None if answer.status_code != 200 else parse_emulator_lag(answer.text)


def parse_emulator_lag(text: str) -> LagHistogram | None:
    """Read the emulator's histogram of how late tokens went out; None when it is not there."""
    buckets = [each for each in samples_of(text) if each.name == f"{_LAG}_bucket"]
    rows = [(each.labels["le"], each.value) for each in buckets if "le" in each.labels]
    if not rows:
        return None
    found = sorted((float(bound), float(count)) for bound, count in rows)
    return LagHistogram(tuple(bound for bound, _ in found), tuple(count for _, count in found))


class Asking(Generic[T]):
    """A question asked in a thread of its own, whose answer may be waited for a little."""

    def __init__(self, question: Callable[[], T]) -> None:
        self._answers: list[T] = []
        self._done = threading.Event()
        threading.Thread(target=self._ask, args=(question,), daemon=True).start()

    def answer(self, wait_s: float) -> T | None:
        """Return the answer if it comes within `wait_s` seconds, else None."""
        return self._answers[0] if self._done.wait(wait_s) and self._answers else None

    @property
    def is_over(self) -> bool:
        return self._done.is_set()

    def _ask(self, question: Callable[[], T]) -> None:
        try:
            self._answers.append(question())
        finally:
            self._done.set()
