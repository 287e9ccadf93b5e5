"""Look at every serving engine's page and keep what it says. An engine that does not answer leaves a gap, no zero."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from controlplane.adapters.engine_counts import metrics_page
from controlplane.adapters.metrics_scrape.page import Page, read_page
from controlplane.adapters.metrics_scrape.samples import SampleStore
from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import Engine, EngineState
from controlplane.domain.engines.gpu import GpuReading
from controlplane.domain.errors import Unavailable
from controlplane.domain.owner import ReplicaOwner
from controlplane.ports import Clock
from controlplane.ports.fleet import FleetView
from controlplane.ports.metrics import GpuSource

log = logging.getLogger(__name__)
_TIMEOUT_S = 2.0
_AT_ONCE = 16

Fetch = Callable[[Engine], str | None]
"""Return an engine's page; None when it does not answer."""


class Scraper:
    """One per installation. `run` is one round; it takes as long as the slowest engine lets it, 4 s at most each."""

    def __init__(
        self,
        *,
        fleet: FleetView,
        samples: SampleStore,
        clock: Clock,
        fetch: Fetch | None = None,
        gpus: GpuSource | None = None,
    ) -> None:
        self._fleet = fleet
        self._samples = samples
        self._clock = clock
        self._fetch = fetch or fetch_page
        self._gpus = gpus
        self._gpus_told = ""

    def run(self) -> bool:
        """Keep one sample of every engine that answers. Raises Unavailable."""
        engines = [each for each in self._fleet.list() if _serves(each)]
        at = self._clock()
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            pages = list(pool.map(self._page, engines))
        told = [(each, page) for each, page in zip(engines, pages, strict=True) if page is not None]
        of_host = self._of_host([each for each, page in told if not page.gpus])
        rows = [(each.spec.served_name, each.spec.engine_id, _with(page, each, of_host)) for each, page in told]
        self._samples.keep(rows, at=at)
        return False

    def _of_host(self, engines: Sequence[Engine]) -> Mapping[EngineId, Sequence[GpuReading]]:
        """Return what the host says of engines' GPUs. When it says nothing that is logged once; the rest goes on."""
        if self._gpus is None:
            return {}
        try:
            found, trouble = self._gpus.read(engines), ""
        except Unavailable as error:
            found, trouble = {}, str(error)
        if trouble != self._gpus_told:
            log.warning("%s", trouble or "GPUs can be read again")
        self._gpus_told = trouble
        return found

    def _page(self, engine: Engine) -> Page | None:
        text = self._fetch(engine)
        try:
            return None if text is None else read_page(text, engine.spec.driver.metrics)
        except ValueError:  # no page of metrics: a gap, as for one that says nothing
            return None


def _with(page: Page, engine: Engine, of_host: Mapping[EngineId, Sequence[GpuReading]]) -> Page:
    return page if page.gpus else page._replace(gpus=tuple(of_host.get(engine.spec.engine_id, ())))


def fetch_page(engine: Engine) -> str | None:
    """Return what an engine answers of its metrics; None when it does not, or with too much."""
    names, key = engine.spec.driver.metrics, engine.spec.api_key
    return None if engine.url is None else metrics_page(engine.url, names, timeout_s=_TIMEOUT_S, key=key)


def _serves(engine: Engine) -> bool:
    serving = engine.state in (EngineState.READY, EngineState.DRAINING)
    return serving and engine.url is not None and isinstance(engine.spec.owner, ReplicaOwner)
