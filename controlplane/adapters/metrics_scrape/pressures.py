"""Engines' own numbers a second old, read beside who asks: a controller's pass never waits for an engine's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta

from controlplane.adapters.metrics_scrape.page import read_page
from controlplane.adapters.metrics_scrape.scrape import Fetch, fetch_page
from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.engines.gpu import GpuReading
from controlplane.domain.errors import Unavailable
from controlplane.domain.rollouts.pressure import Pressure
from controlplane.ports import Clock
from controlplane.ports.metrics import GpuSource

EVERY = timedelta(seconds=0.8)
STALE_AFTER = timedelta(seconds=5)
_AT_ONCE = 8


class EnginePressures:
    """Implements `ports.PressureView` on the engines' pages."""

    def __init__(self, *, clock: Clock, fetch: Fetch | None = None, gpus: GpuSource | None = None) -> None:
        """`gpus` are asked where an engine's page does not tell of its own."""
        self._clock = clock
        self._gpus = gpus
        self._fetch = fetch or fetch_page
        self._pool = ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="pressure")
        self._asked: dict[EngineId, Future[Pressure | None]] = {}
        self._told: dict[EngineId, Pressure] = {}

    def read(self, engines: Sequence[Engine]) -> Mapping[EngineId, Pressure]:
        """See `ports.PressureView.read`."""
        now, wanted = self._clock(), {each.spec.engine_id: each for each in engines}
        self._collect()
        self._told = {name: told for name, told in self._told.items() if name in wanted}
        for name, engine in wanted.items():
            known = self._told.get(name)
            if name not in self._asked and (known is None or now - known.at >= EVERY):
                self._asked[name] = self._pool.submit(self._ask, engine, now)
        return {name: told for name, told in self._told.items() if now - told.at < STALE_AFTER}

    def _collect(self) -> None:
        for name in [name for name, asked in self._asked.items() if asked.done()]:
            told = self._asked.pop(name).result()
            if told is not None:
                self._told[name] = told

    def _ask(self, engine: Engine, at: datetime) -> Pressure | None:
        text = self._fetch(engine)
        if text is None:
            return None
        try:
            page = read_page(text, engine.spec.driver.metrics)
        except ValueError:  # no page of metrics: a gap, as for one that says nothing
            return None
        memory = _fullest(page.gpus or self._of_host(engine))
        return Pressure(at, page.preemptions, page.kv_usage, page.waiting, memory, page.resident_gib)

    def _of_host(self, engine: Engine) -> Sequence[GpuReading]:
        if self._gpus is None:
            return ()
        try:
            return self._gpus.read([engine]).get(engine.spec.engine_id, ())
        except Unavailable:  # a host without a driver: the scraper says so
            return ()


def _fullest(gpus: Sequence[GpuReading]) -> float | None:
    """Return the share in use of the fullest GPU."""
    used = [each.memory_percent / 100 for each in gpus if each.memory_percent is not None]
    return max(used, default=None)
