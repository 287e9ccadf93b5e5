"""What a day of built-in metrics costs: 20 replicas, every 15 s, 24 h and an hour more, in simulated time.

    python -m benchmarks.metrics_store --json docs/results/metrics-store.json

Pages are those of the emulator's own metrics, with counts that grow as at 6 requests/s a replica; of two gateways in
front of four services, each with two revisions; and of the control plane (a constant 200 series). Size of the store
with all its files, peak of what Python allocates while a day of P99 is read, seconds of one round's keeping (no HTTP),
of reading that day, and of parsing one page.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import tempfile
import time
import tracemalloc
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from benchmarks.figures import asked_as, tell
from controlplane.adapters.metrics_scrape.own import EVERY, Key, OwnStore
from controlplane.adapters.metrics_scrape.page import Buckets, Page, read_page
from controlplane.adapters.metrics_scrape.samples import SampleStore
from controlplane.adapters.metrics_scrape.source import ScrapedMetrics
from controlplane.domain.door.latency_buckets import BUCKETS_S
from controlplane.domain.engines.engine_metrics import EngineNumber
from controlplane.domain.engines.kinds.vllm import VLLM
from controlplane.domain.operations.own_metrics import CONTROL
from controlplane.domain.slo import LatencyMetric
from controlplane.emulator.card import Card
from controlplane.emulator.metrics import EngineMetrics

OWN_EVERY = int(EVERY.total_seconds()) // 15
GATEWAYS, REQUESTS = 2, "fleetune_gateway_requests_total"
MODEL, EVERY_S, RATE_RPS = "llama-8b", 15, 6.0
CARD = Card(gpus=1, total_gib=139.8, awake_gib=128.6, asleep_gib=4.0, limit_w=700.0)
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)


def day(folder: Path, *, replicas: int, hours: float, seed: int = 0) -> dict[str, float]:
    """Keep so many hours of pages and return what they cost."""
    store, chance = SampleStore(folder / "metrics.db"), Random(seed)
    engines = [EngineMetrics(MODEL, 8192, {}, {}, CARD) for _ in range(replicas)]
    rounds = int(hours * 3600 / EVERY_S)
    sizes: list[int] = []
    own, gateways = OwnStore(folder / "metrics.db"), [_gateway(chance, replicas) for _ in range(GATEWAYS)]
    began_s, own_s = time.perf_counter(), 0.0
    for number in range(rounds):
        for engine in engines:
            _serve(engine, chance)
        rows = [(MODEL, f"chat-{index}", page_of(engine)) for index, engine in enumerate(engines)]
        store.keep(rows, at=BEGIN + timedelta(seconds=EVERY_S * number))
        if number % OWN_EVERY == 0:
            for gateway in gateways:
                _pass_on(gateway, chance)
            told = {f"gw-{index}": gateway for index, gateway in enumerate(gateways)} | {CONTROL: _control(chance)}
            own_began_s = time.perf_counter()
            own.keep(told, at=BEGIN + timedelta(seconds=EVERY_S * number))
            own_s += time.perf_counter() - own_began_s
        if number % 240 == 239:
            sizes.append(_bytes(folder))
    took_s = time.perf_counter() - began_s - own_s
    tracemalloc.start()
    now = BEGIN + timedelta(seconds=EVERY_S * (rounds - 1))
    source = ScrapedMetrics(store, clock=lambda: now)
    _read_day(source, now)
    _, read = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    began_s = time.perf_counter()
    _read_day(source, now)
    read_s = time.perf_counter() - began_s
    began_s = time.perf_counter()
    told_own = own.series(REQUESTS, since=now - timedelta(hours=24), until=now, step_s=300)
    own_read_s = time.perf_counter() - began_s
    return {
        "gateways": GATEWAYS,
        "own_series": sum(map(len, told.values())),
        "own_mib": own_mib(folder / "metrics.db"),
        "own_round_s": OWN_EVERY * own_s / rounds,
        "reading_a_day_of_a_gateway_s": own_read_s,
        "reading_a_day_of_a_gateway_points": sum(len(each.points) for each in told_own),
        "replicas": replicas,
        "hours": hours,
        "store_mib": sizes[-1] / 2**20,
        "store_mib_an_hour_before": sizes[-2] / 2**20,
        "reading_a_day_peak_mib": read / 2**20,
        "round_s": took_s / rounds,
        "reading_a_day_of_p99_s": read_s,
    }


def _read_day(source: ScrapedMetrics, now: datetime) -> None:
    source.series(MODEL, EngineNumber.TTFT_P99_MS, since=now - timedelta(hours=24), until=now, step_s=300)


def own_mib(path: Path) -> float:
    """Return how much of the file is the gateways' and the control plane's."""
    with closing(sqlite3.connect(path)) as base:
        [found] = base.execute("SELECT SUM(pgsize) FROM dbstat WHERE name LIKE '%own%'").fetchone()
    return float(found) / 2**20


def _gateway(chance: Random, replicas: int) -> dict[Key, float]:
    """Return a gateway's series before its first request, as its page names them."""
    found: dict[Key, float] = {}
    for service, revision in ((f"chat-{s}", f"rev-{s}-{r}-0123456789ab") for s in range(4) for r in range(2)):
        place = (("revision", revision), ("service", service))
        found |= {(REQUESTS, (*place, ("status", status))): 0.0 for status in ("200", "429", "503")}
        found |= {
            (f"fleetune_gateway_{name}_total", place): 0.0 for name in ("output_tokens", "retries", "client_gone")
        }
        for metric, name in ((m, m.value.removesuffix("_ms")) for m in LatencyMetric):
            bounds = [*map(str, BUCKETS_S[metric]), "+Inf"]
            found |= {(f"fleetune_gateway_{name}_seconds_bucket", (("le", le), *place)): 0.0 for le in bounds}
            found |= {(f"fleetune_gateway_{name}_seconds_{part}", place): 0.0 for part in ("count", "sum")}
    for engine in range(replicas):
        where = (("engine", f"chat-{engine}"), ("revision", "rev-0"))
        found |= {(f"fleetune_gateway_{name}", where): 0.0 for name in ("in_flight", "put_aside", "ejected")}
    return found


def _pass_on(gateway: dict[Key, float], chance: Random) -> None:
    """Let every series move as in a minute of traffic. The harshest case: every bucket by a chance of its own."""
    for key, told in gateway.items():
        gateway[key] = chance.randint(0, 64) if "in_flight" in key[0] else told + chance.randint(0, 90)


def _control(chance: Random) -> dict[Key, float]:
    return {(f"fleetune_made_up_{index}", (("service", "chat"),)): chance.random() for index in range(200)}


def _serve(engine: EngineMetrics, chance: Random) -> None:
    engine.busy_share = chance.random()
    engine.running, engine.waiting, engine.kv_usage = chance.randint(0, 64), chance.randint(0, 4), chance.random()
    for _ in range(int(RATE_RPS * EVERY_S / 10)):
        engine.ttft_s.observe(chance.lognormvariate(-2, 0.8), 10)
        engine.tpot_s.observe(chance.lognormvariate(-3.5, 0.4), 10)


def page_of(engine: EngineMetrics) -> Page:
    """Return what the page says, without writing and parsing it 115,000 times; a test holds the two together."""
    return Page(
        running=engine.running,
        waiting=engine.waiting,
        kv_usage=engine.kv_usage,
        preemptions=float(engine.preemptions),
        ttft_s=_told(engine.ttft_s.buckets()),
        tpot_s=_told(engine.tpot_s.buckets()),
        gpus=CARD.readings(engine.busy_share, asleep=False),
    )


def _told(buckets: list[tuple[str, float]]) -> Buckets:
    return Buckets(tuple(float(bound) for bound, _ in buckets), tuple(int(count) for _, count in buckets))


def parse_s(rounds: int = 20) -> float:
    """Return the seconds that reading one real page takes."""
    text = EngineMetrics(MODEL, 8192, {}, {}).text().decode()
    began_s = time.perf_counter()
    for _ in range(rounds):
        read_page(text, VLLM.metrics)
    return (time.perf_counter() - began_s) / rounds


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def main() -> None:
    """Run and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=20)
    parser.add_argument("--hours", type=float, default=25)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if asked.hours < 3:
        parser.error("--hours: at least 3, to see whether the last one grows")
    with tempfile.TemporaryDirectory() as folder:
        found = day(Path(folder), replicas=asked.replicas, hours=asked.hours) | {"parsing_a_page_s": parse_s()}
    figures = {name: float(f"{value:.3g}") for name, value in found.items()}
    tell(asked_as("metrics_store") | {"load_average": os.getloadavg()} | figures, asked.json)


if __name__ == "__main__":
    main()
