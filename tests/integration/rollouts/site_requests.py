"""What a living site is sent: one request, the replays of its trace, and the records they become."""

from __future__ import annotations

import shutil
import weakref
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from controlplane.domain.base import EngineId, RevisionId
from controlplane.domain.door.routing import InFlight
from controlplane.domain.report import RequestRecord
from controlplane.ports.load import LoadProgress, LoadRequest, LoadResult, Watch
from loadtests.send.schedule import Schedule, build_schedule
from tests.builders_reports import a_load_report

if TYPE_CHECKING:
    from tests.integration.rollouts.living_site import LivingSite


@dataclass
class Request:
    at_s: float
    engine_id: EngineId
    wanted: int
    prompt: int
    index: int = 0
    revision: RevisionId | None = None  # None: replayed
    ahead: int | None = None  # in flight at its engine before it
    first_s: float | None = None
    last_s: float | None = None
    tokens: int = 0


class TwinGenerator:
    """Implements `ports.LoadTester` on the site's twins: time goes by in the whole site while it sends."""

    def __init__(self, site: LivingSite) -> None:
        self._site = site
        self.runs: list[LoadRequest] = []
        self.stopped: list[str] = []

    def rest(self) -> None:
        """Nothing is held between levels."""

    def run(self, request: LoadRequest, *, out_dir: Path, watch: Watch | None = None) -> LoadResult:
        self.runs.append(request)
        site = self._site
        engine_id = next(e.spec.engine_id for e in site.fleet.list() if e.url == request.url)
        schedule = build_schedule(
            request.workload, rate_rps=request.rate_rps, duration_s=request.duration_s, seed=request.seed
        )
        began_s = site.now_s
        numbers: list[int] = []
        site.run_begins()
        for index, (at_s, prompt, wanted) in enumerate(arrivals(schedule)):
            while began_s + at_s > site.now_s:
                site.tick()
                reason = watch(self._progress(began_s, len(numbers))) if watch else None
                if reason is not None:
                    self.stopped.append(reason)
                    for number in numbers:
                        site.cancel(number)
                    return LoadResult(a_load_report(), out_dir / "records.jsonl")
            numbers.append(site.submit(engine_id, Request(began_s + at_s, engine_id, wanted, prompt, index)))
        return LoadResult(a_load_report(), out_dir / "records.jsonl")

    def _progress(self, began_s: float, sent: int) -> LoadProgress:
        site = self._site
        waiting, begun = _waits([each for each in site.flying if each.revision is None], site.now_s)
        silent = [(age - silent, silent) for age, silent in begun]
        return LoadProgress(site.now_s - began_s, sent, sent - len(site.answered), site.answered, waiting, silent)


def in_flight(flying: Iterable[Request], service: str, now_s: float) -> list[InFlight]:
    """Return users' requests as their gateway tells them."""
    arms = defaultdict(list)
    for each in flying:
        if each.revision is not None:
            arms[each.revision].append(each)
    told = [(revision, len(part), *_waits(part, now_s)) for revision, part in arms.items()]
    return [
        InFlight(service=service, revision=revision, requests=requests, without_token_s=first, begun_s=begun)
        for revision, requests, first, begun in told
    ]


def _waits(flying: Iterable[Request], now_s: float) -> tuple[list[float], list[tuple[float, float]]]:
    """Return how long first tokens are waited for, and of the others their age and how long the next one is."""
    each = list(flying)
    first = sorted(now_s - one.at_s for one in each if one.first_s is None)
    return first, [(now_s - one.at_s, now_s - one.last_s) for one in each if one.last_s is not None]


def arrivals(schedule: Schedule) -> Iterator[tuple[float, int, int]]:
    for index in range(len(schedule)):
        yield (
            float(schedule.scheduled_s[index]),
            int(schedule.prompt_tokens[index]),
            int(schedule.output_tokens[index]),
        )


def folder_of(owner: object) -> Path:
    """Return a folder that goes with its owner."""
    folder = Path(mkdtemp(prefix="living-site-"))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return folder


def latencies(request: Request, at_s: float) -> tuple[float, float | None, float]:
    first_s = request.first_s if request.first_s is not None else at_s
    tpot_ms = 1e3 * (at_s - first_s) / (request.tokens - 1) if request.tokens > 1 else None
    return 1e3 * (first_s - request.at_s), tpot_ms, 1e3 * (at_s - request.at_s)


def as_record(request: Request, at_s: float, began_s: float) -> RequestRecord:
    ttft_ms, tpot_ms, e2e_ms = latencies(request, at_s)
    return RequestRecord(
        index=request.index,
        scheduled_s=request.at_s - began_s,
        lag_ms=0,
        prompt_tokens=request.prompt,
        output_tokens=request.tokens,
        wanted_tokens=request.wanted,
        ttft_ms=ttft_ms,
        tpot_ms=tpot_ms,
        e2e_ms=e2e_ms,
        status=200,
    )
