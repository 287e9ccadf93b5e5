"""Stock Locust: FastHttpUser reading a stream with the client's `iter_lines`. Run by Locust as a locustfile.

Closed loop is what it is: enough users with a constant throughput each that together they make the wanted rate.
"""

from __future__ import annotations

import json
import os
from typing import Any

SETTINGS = "FLEETUNE_BENCH_STOCK"
PER_USER_RPS = 1.0


def command_line(url: str, *, rate: float, seconds: float, tokens: int) -> list[str]:
    """Return the arguments of `python` that run this file under Locust. Sets the environment it reads."""
    os.environ[SETTINGS] = json.dumps({"tokens": tokens, "rate": rate, "seconds": seconds})
    users = str(max(1, round(rate / PER_USER_RPS)))
    arguments = ["-m", "locust", "-f", __file__, "--headless", "--host", url, "--users", users, "--spawn-rate", users]
    return [*arguments, "--run-time", f"{seconds + 2:g}s", "--stop-timeout", "5", "--loglevel", "ERROR"]


if SETTINGS in os.environ and __name__ != "benchmarks.loadgen_stock_locust":
    import time
    from dataclasses import asdict

    from locust import FastHttpUser, constant_throughput, events, task

    from benchmarks.loadgen_clients import WARMUP_S, Timing, cpu_s, payload, summarise

    _settings = json.loads(os.environ[SETTINGS])
    _timings: list[Timing] = []
    _started = time.perf_counter()
    _skipped = 0
    _cpu_before_s = cpu_s()

    class StockUser(FastHttpUser):
        wait_time = constant_throughput(PER_USER_RPS)

        @task
        def stream(self) -> None:
            global _skipped  # noqa: PLW0603 - Locust makes the users; there is no other place
            timing = Timing()
            started = last = time.perf_counter()
            _skipped += started - _started < WARMUP_S
            body = payload(_settings["tokens"], as_ids=True)
            for text in self.client.iter_lines("/v1/completions", method="POST", json=body):
                if text.startswith("data: {") and json.loads(text[6:])["choices"]:
                    last = time.perf_counter()
                    timing.tokens += 1
                    if timing.tokens == 1:
                        timing.ttft_s = last - started
            timing.ok, timing.e2e_s = timing.tokens > 0, last - started
            _timings.append(timing)

    @events.quitting.add_listener  # type: ignore[untyped-decorator]
    def _report(environment: Any, **_: Any) -> None:
        skipped = min(_skipped, len(_timings))
        outcome = summarise(_timings, skipped, _settings["tokens"], cpu_before_s=_cpu_before_s)
        print(json.dumps(asdict(outcome)), flush=True)
