"""A whole control plane in virtual time whose engines are the twin: load, scrapes, alerts, acts, passes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

from benchmarks.drills.engines import VirtualEngine
from controlplane.adapters.metrics_scrape.samples import SampleStore
from controlplane.adapters.metrics_scrape.scrape import Scraper
from controlplane.adapters.metrics_scrape.source import ScrapedMetrics
from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import Engine, EngineState
from controlplane.domain.service import ServiceSpec
from controlplane.services.operations.watch import AlertWatcher
from tests.builders_serving import CHAT
from tests.integration.controller.site import Site

PASS_S, LOOK_S = 5, 15


class Load(NamedTuple):
    """Poisson arrivals of one kind of request."""

    rate_rps: float
    prompt_tokens: int
    output_tokens: int


class DrillSite:
    """The controller, the scraper and the watch of alerts as they run, on one clock that a drill moves on."""

    def __init__(self, folder: Path, spec: ServiceSpec, *, gpus: int, seed: int) -> None:
        self.site = Site(gpus=gpus)
        self._chance = random.Random(seed)
        self._engines: dict[EngineId, VirtualEngine] = {}
        self._turn = 0
        samples, clock = SampleStore(folder / "metrics.db"), self.site.clock
        self.metrics = ScrapedMetrics(samples, clock=clock)
        self._scraper = Scraper(fleet=self.site.fleet, samples=samples, clock=clock, fetch=self._page)
        self._watcher = AlertWatcher(
            store=self.site.store,
            fleet=self.site.fleet,
            records=self.site.records,
            metrics=self.metrics,
            router=self.site.router,
            clock=clock,
        )
        self.site.serving(**dict(spec))
        self.began = clock()

    def begin(self) -> None:
        """Count seconds from now on."""
        self.began = self.site.clock()

    def go_on(self, minutes: float, load: Load) -> None:
        """Let time go by under a load; requests are split as the gateway's table says."""
        for step in range(round(60 * minutes / PASS_S)):
            self._offer(load)
            self.site.clock.go_on(PASS_S)
            self.site.controller.run_pass()
            if step % (LOOK_S // PASS_S) == 0:
                self._scraper.run()
                self._watcher.run()

    def first(self, action: str, alert: str) -> float | None:
        """Return when an event of an alert came first, seconds from the beginning; None: it did not."""
        events = [each for each in self.site.store.list_events(limit=10_000) if each.action == action]
        mine = [each.at for each in events if each.subject == f"alert/{alert}"]
        return (min(mine) - self.began).total_seconds() if mine else None

    def all_ready_s(self, replicas: int) -> float | None:
        """Return since when so many replicas are ready, seconds from the beginning."""
        ready = sorted(each.ready_at for each in self.site.fleet.list() if each.ready_at and not each.state.is_over)
        return (ready[replicas - 1] - self.began).total_seconds() if len(ready) >= replicas else None

    @property
    def replicas(self) -> int:
        return self.site.store.get_service(CHAT).value.stable_replicas

    def _offer(self, load: Load) -> None:
        now_s, at_s = self._now_s, self._now_s
        while (at_s := at_s + self._chance.expovariate(load.rate_rps)) < now_s + PASS_S:
            self._next_engine().offer(load.prompt_tokens, load.output_tokens, at_s=at_s)

    def _next_engine(self) -> VirtualEngine:
        routes = self.site.table.services[0].revisions
        route = self._chance.choices(routes, [each.weight_percent for each in routes])[0]
        self._turn += 1
        return self._engine(EngineId(route.backends[self._turn % len(route.backends)].engine_id))

    def _engine(self, name: EngineId) -> VirtualEngine:
        if name not in self._engines:
            self._engines[name] = VirtualEngine(self.site.fleet.observe(name).spec)
        return self._engines[name]

    def _page(self, engine: Engine) -> str | None:
        if engine.state is not EngineState.READY:
            return None
        there = self._engine(engine.spec.engine_id)
        there.advance(self._now_s)
        return there.page()

    @property
    def _now_s(self) -> float:
        return self.site.clock().timestamp()
