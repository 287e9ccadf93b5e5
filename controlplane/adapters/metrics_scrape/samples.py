"""The local store of scraped samples: one SQLite file, bounded by time and by the number of engines."""

from __future__ import annotations

import json
import sqlite3
import zlib
from array import array
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from controlplane.adapters.metrics_scrape.kept_file import opened
from controlplane.adapters.metrics_scrape.page import Buckets, Page
from controlplane.domain.engines.gpu import MOST_GPUS, GpuReading, throttle_mask, throttles

KEPT = timedelta(hours=24)
MOST_ENGINES = 256
"""Samples of more engines at one moment are not kept: a store that grows with whatever is started is not bounded."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS bounds (id INTEGER PRIMARY KEY, text TEXT UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS samples (
    model TEXT NOT NULL, at REAL NOT NULL, engine TEXT NOT NULL,
    running REAL, waiting REAL, kv_usage REAL,
    ttft_bounds INTEGER, ttft BLOB, tpot_bounds INTEGER, tpot BLOB,
    PRIMARY KEY (model, at, engine)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS samples_at ON samples (at);
CREATE TABLE IF NOT EXISTS counters (
    model TEXT NOT NULL, at REAL NOT NULL, engine TEXT NOT NULL, preemptions REAL,
    PRIMARY KEY (model, at, engine)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS counters_at ON counters (at);
CREATE TABLE IF NOT EXISTS gpus (
    model TEXT NOT NULL, at REAL NOT NULL, engine TEXT NOT NULL, gpu TEXT NOT NULL,
    used REAL, total REAL, busy REAL, power REAL, temperature REAL, throttled INTEGER,
    PRIMARY KEY (model, at, engine, gpu)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS gpus_at ON gpus (at);
"""


class Sample(NamedTuple):
    """One engine's page at one moment, seconds since the epoch."""

    engine: str
    at_s: float
    page: Page


class GpuSample(NamedTuple):
    """One GPU of one engine at one moment, seconds since the epoch."""

    engine: str
    at_s: float
    reading: GpuReading


class SampleStore:
    """Any number of processes may read while one writes. Every method raises Unavailable when the file is unusable."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self, rows: Iterable[tuple[str, str, Page]], *, at: datetime) -> None:
        """Keep (model, engine, page) of one moment, and forget what is older than a day. Twice the same is once."""
        with self._open() as base, base:
            for model, engine, page in list(rows)[:MOST_ENGINES]:
                histograms = [each for part in (page.ttft_s, page.tpot_s) for each in _packed(base, part)]
                values = (model, at.timestamp(), engine, page.running, page.waiting, page.kv_usage, *histograms)
                base.execute("INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
                base.execute("INSERT OR REPLACE INTO counters VALUES (?, ?, ?, ?)", (*values[:3], page.preemptions))
                _keep_gpus(base, values[:3], page.gpus)
            for table in ("samples", "counters", "gpus"):
                # What lies ahead was kept before a clock was set back: between it, counters would seem to be reset.
                base.execute(f"DELETE FROM {table} WHERE at < ? OR at > ?", ((at - KEPT).timestamp(), at.timestamp()))

    def between(self, model: str, since: datetime, until: datetime, *, histograms: bool = True) -> Sequence[Sample]:
        """Return a model's samples after `since` and up to `until`, the oldest first."""
        if not self._path.exists():
            return ()
        columns = "ttft_bounds, ttft, tpot_bounds, tpot" if histograms else "NULL, NULL, NULL, NULL"
        query = f"SELECT engine, at, running, waiting, kv_usage, preemptions, {columns} FROM samples"
        query += " LEFT JOIN counters USING (model, at, engine) WHERE model = ? AND at > ? AND at <= ? ORDER BY at"
        with self._open() as base:
            bounds = {row[0]: tuple(json.loads(row[1])) for row in base.execute("SELECT id, text FROM bounds")}
            rows = base.execute(query, (model, since.timestamp(), until.timestamp())).fetchall()
        return [_sample(row, bounds) for row in rows]

    def gpus_between(self, model: str, since: datetime, until: datetime) -> Sequence[GpuSample]:
        """Return what the GPUs of a model's engines said after `since` and up to `until`, the oldest first."""
        if not self._path.exists():
            return ()
        query = "SELECT engine, at, gpu, used, total, busy, power, temperature, throttled FROM gpus"
        query += " WHERE model = ? AND at > ? AND at <= ? ORDER BY at, engine, gpu"
        with self._open() as base:
            rows = base.execute(query, (model, since.timestamp(), until.timestamp())).fetchall()
        return [_gpu_sample(*row) for row in rows]

    def newest(self) -> datetime | None:
        """Return when anything was scraped last."""
        if not self._path.exists():
            return None
        with self._open() as base:
            [at_s] = base.execute("SELECT MAX(at) FROM samples").fetchone()
        return None if at_s is None else datetime.fromtimestamp(at_s, UTC)

    def _open(self) -> AbstractContextManager[sqlite3.Connection]:
        return opened(self._path, _SCHEMA)


def _keep_gpus(base: sqlite3.Connection, where: tuple[object, ...], readings: Sequence[GpuReading]) -> None:
    for each in readings[:MOST_GPUS]:
        mask = None if each.throttled is None else throttle_mask(each.throttled)
        memory = (each.memory_used_gib, each.memory_total_gib)
        values = (*where, each.gpu, *memory, each.utilisation_percent, each.power_w, each.temperature_c, mask)
        base.execute("INSERT OR REPLACE INTO gpus VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)


def _gpu_sample(engine: str, at_s: float, gpu: str, *told: Any) -> GpuSample:
    used, total, busy, power, temperature, mask = told
    reasons = None if mask is None else throttles(mask)
    return GpuSample(engine, at_s, GpuReading(gpu, used, total, busy, power, temperature, reasons))


def _packed(base: sqlite3.Connection, buckets: Buckets) -> tuple[int | None, bytes | None]:
    """Return a histogram as it is kept: the number of its bounds, which are always the same, and packed counts."""
    if not buckets.bounds:
        return None, None
    text = json.dumps(buckets.bounds)
    base.execute("INSERT OR IGNORE INTO bounds (text) VALUES (?)", (text,))
    [number] = base.execute("SELECT id FROM bounds WHERE text = ?", (text,)).fetchone()
    return number, zlib.compress(array("Q", buckets.counts).tobytes(), 1)


def _sample(row: tuple[object, ...], bounds: dict[int, tuple[float, ...]]) -> Sample:
    engine, at_s, running, waiting, kv_usage, preemptions, ttft_bounds, ttft, tpot_bounds, tpot = row
    page = Page(
        *(running, waiting, kv_usage, preemptions),  # type: ignore[arg-type]  # columns of the schema above
        ttft_s=_unpacked(ttft_bounds, ttft, bounds),
        tpot_s=_unpacked(tpot_bounds, tpot, bounds),
    )
    return Sample(str(engine), float(at_s), page)  # type: ignore[arg-type]  # REAL NOT NULL


def _unpacked(number: object, packed: object, bounds: dict[int, tuple[float, ...]]) -> Buckets:
    if not isinstance(number, int) or not isinstance(packed, bytes) or number not in bounds:
        return Buckets()
    counts = array("Q")
    counts.frombytes(zlib.decompress(packed))
    return Buckets(bounds[number], tuple(counts))
