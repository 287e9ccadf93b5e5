"""What gateways and the control plane say of themselves, kept for a day beside the engines' numbers.

A look at one source is a row: its numbers packed, in the order of a layout that is kept once. Bounded by sources, by
series of a source and by time, whatever anybody tells.
"""

from __future__ import annotations

import json
import logging
import math
import sqlite3
import zlib
from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from controlplane.adapters.metrics_scrape.kept_file import opened
from controlplane.adapters.metrics_scrape.samples import KEPT
from controlplane.domain.operations.own_metrics import OWN_PREFIX, OwnPoint, OwnSeries
from controlplane.ports import Clock

log = logging.getLogger(__name__)
MOST_SOURCES = 17
"""The control plane and sixteen gateways; of more the first by name are kept."""
MOST_SERIES = 2000
"""Of one source; a gateway tells some 100 of each revision it has routed to."""
EVERY = timedelta(minutes=1)
_EARLY = timedelta(seconds=5)
Key = tuple[str, tuple[tuple[str, str], ...]]
Pages = Callable[[], Mapping[str, str]]
"""Return each source's page in Prometheus's text format; a source that does not answer is left out."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS own_layouts (id INTEGER PRIMARY KEY, packed BLOB UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS own (
    source TEXT NOT NULL, at REAL NOT NULL, layout INTEGER NOT NULL, numbers BLOB NOT NULL,
    PRIMARY KEY (source, at)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS own_at ON own (at);
"""


class OwnStore:
    """Any number of processes may read while one writes. Every method raises Unavailable when the file is unusable."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self, told: Mapping[str, Mapping[Key, float]], *, at: datetime) -> None:
        """Keep what each source told at one moment, and forget what is older than a day. Twice the same is once."""
        with self._open() as base, base:
            for source, numbers in sorted(told.items())[:MOST_SOURCES]:
                keys = sorted(numbers)[:MOST_SERIES]
                row = (source, at.timestamp(), _layout(base, keys), _packed([numbers[key] for key in keys]))
                base.execute("INSERT OR REPLACE INTO own VALUES (?, ?, ?, ?)", row)
            # What lies ahead was kept before a clock was set back: between it, counters would seem to be reset.
            base.execute("DELETE FROM own WHERE at < ? OR at > ?", ((at - KEPT).timestamp(), at.timestamp()))
            base.execute("DELETE FROM own_layouts WHERE id NOT IN (SELECT DISTINCT layout FROM own)")

    def names(self, *, since: datetime) -> Sequence[str]:
        """Return the names of all series told since then."""
        if not self._path.exists():
            return ()
        query = "SELECT packed FROM own_layouts WHERE id IN (SELECT DISTINCT layout FROM own WHERE at > ?)"
        with self._open() as base:
            rows = base.execute(query, (since.timestamp(),)).fetchall()
        return sorted({name for (packed,) in rows for name, _ in _keys(packed)})

    def series(self, name: str, *, since: datetime, until: datetime, step_s: float) -> Sequence[OwnSeries]:
        """Return every series of a name after `since` and up to `until`: of each step the last point, if any."""
        if not self._path.exists():
            return ()
        query = "SELECT source, at, layout, numbers FROM own WHERE at > ? AND at <= ? ORDER BY at"
        found: dict[tuple[str, Key], dict[int, OwnPoint]] = {}
        with self._open() as base:
            places = {number: _places(packed, name) for number, packed in base.execute("SELECT * FROM own_layouts")}
            for source, at_s, layout, packed in base.execute(query, (since.timestamp(), until.timestamp())):
                numbers = _numbers(packed) if places[layout] else ()
                step, at = math.ceil((at_s - since.timestamp()) / step_s), datetime.fromtimestamp(at_s, UTC)
                for key, place in places[layout]:
                    found.setdefault((source, key), {})[step] = OwnPoint(at, numbers[place])
        return [
            OwnSeries(source=source, name=name, labels=dict(labels), points=tuple(points.values()))
            for (source, (_, labels)), points in sorted(found.items())
        ]

    def _open(self) -> AbstractContextManager[sqlite3.Connection]:
        return opened(self._path, _SCHEMA)


class OwnScraper:
    """One per installation. `run` looks at every source once a minute; it takes as long as the slowest lets it."""

    def __init__(self, *, pages: Pages, store: OwnStore, clock: Clock) -> None:
        self._pages = pages
        self._store = store
        self._clock = clock
        self._cut: set[str] = set()
        self._looked: datetime | None = None

    def run(self) -> bool:
        """Keep what every source that answers tells, when it is time. Raises Unavailable."""
        at, told = self._clock(), dict[str, Mapping[Key, float]]()
        if self._looked is not None and timedelta(0) <= at - self._looked < EVERY - _EARLY:
            return False
        self._looked = at
        for source, text in self._pages().items():
            try:
                told[source] = numbers_of(text)
            except ValueError:  # no page of metrics: a gap, as for one that says nothing
                continue
            self._say_if_cut(source, len(told[source]))
        self._store.keep(told, at=at)
        return False

    def _say_if_cut(self, source: str, series: int) -> None:
        if series > MOST_SERIES and source not in self._cut:
            self._cut.add(source)
            log.warning("%s tells %d series; the first %d by name are kept", source, series, MOST_SERIES)


def numbers_of(text: str) -> Mapping[Key, float]:
    """Return our own finite numbers of a page, by name and labels. Raises ValueError when it is no such page."""
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {
        (each.name, tuple(sorted(each.labels.items()))): each.value
        for each in samples
        if each.name.startswith(OWN_PREFIX) and not each.name.endswith("_created") and math.isfinite(each.value)
    }


def _layout(base: sqlite3.Connection, keys: Sequence[Key]) -> int:
    packed = zlib.compress(json.dumps(keys, separators=(",", ":")).encode(), 9)
    base.execute("INSERT OR IGNORE INTO own_layouts (packed) VALUES (?)", (packed,))
    [number] = base.execute("SELECT id FROM own_layouts WHERE packed = ?", (packed,)).fetchone()
    return int(number)


def _keys(packed: bytes) -> list[Key]:
    told = json.loads(zlib.decompress(packed))
    return [(name, tuple((label, value) for label, value in labels)) for name, labels in told]


def _places(packed: bytes, name: str) -> list[tuple[Key, int]]:
    return [(key, place) for place, key in enumerate(_keys(packed)) if key[0] == name]


def _packed(numbers: Sequence[float]) -> bytes:
    """All first bytes, all second ones, ...: most of the eight are the same in all numbers, and pack to nothing."""
    plain = array("d", numbers).tobytes()
    return zlib.compress(b"".join(plain[byte::8] for byte in range(8)), 6)


def _numbers(packed: bytes) -> Sequence[float]:
    apart = zlib.decompress(packed)
    count = len(apart) // 8
    plain = bytearray(len(apart))
    for byte in range(8):
        plain[byte::8] = apart[byte * count : (byte + 1) * count]
    numbers = array("d")
    numbers.frombytes(bytes(plain))
    return numbers
