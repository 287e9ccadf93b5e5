"""Pages of engines are kept for a day, bounded, and read back: gaps are gaps, resets are resets."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.metrics_store import CARD, day, page_of
from controlplane.adapters.engine_counts import metrics_page
from controlplane.adapters.metrics_scrape.page import Buckets, Page, read_page
from controlplane.adapters.metrics_scrape.samples import KEPT, MOST_ENGINES, SampleStore
from controlplane.adapters.metrics_scrape.scrape import Scraper, fetch_page
from controlplane.adapters.metrics_scrape.source import ScrapedMetrics, increase, quantile
from controlplane.domain.base import EngineId
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.engine_metrics import EngineNumber, EngineNumbers
from controlplane.domain.engines.fleet import Engine, EngineSpec, EngineState
from controlplane.domain.engines.kinds.vllm import VLLM
from controlplane.domain.errors import Unavailable
from controlplane.emulator.metrics import EngineMetrics
from tests.builders_serving import NOW, after
from tests.fakes.fleet import FakeClock

MODEL = "llama-8b"
INF = math.inf


def an_engine(name: str, owner: str = "rollout/chat/rev-1", state: EngineState = EngineState.READY) -> Engine:
    spec = EngineSpec(
        engine_id=EngineId(name),
        owner=owner,
        kind=EngineKind.EMULATOR,
        model=MODEL,
        served_name=MODEL,
        config=EngineConfig(),
        gpus=1,
    )
    return Engine(spec=spec, state=state, url="http://127.0.0.1:9", started_at=NOW)


class Engines:
    """A fleet to look at, and what its engines answer."""

    def __init__(self, *engines: Engine) -> None:
        self._engines = engines
        self.pages: dict[str, str | None] = {}

    def list(self) -> tuple[Engine, ...]:
        return self._engines

    def free_gpus(self, *, spot: bool | None = None) -> int:
        return 0

    def fetch(self, engine: Engine) -> str | None:
        return self.pages.get(engine.spec.engine_id)


def emulated() -> EngineMetrics:
    return EngineMetrics(MODEL, 8192, {}, {})


def test_the_page_of_an_emulated_engine_is_read_whole() -> None:
    metrics = emulated()
    metrics.running, metrics.waiting, metrics.kv_usage = 12, 3, 0.5
    metrics.ttft_s.observe(0.09, 4)
    page = read_page(metrics.text().decode(), VLLM.metrics)
    assert (page.running, page.waiting, page.kv_usage) == (12, 3, 0.5)
    assert (page.ttft_s.counts[-1], page.ttft_s.bounds[-1]) == (4, INF)


@pytest.mark.parametrize("text", ["", "vllm:num_requests_running NaN\n", "vllm:num_requests_running -1\n", "a 1\n"])
def test_what_a_page_does_not_say_or_says_wrongly_is_none(text: str) -> None:
    assert read_page(text, VLLM.metrics) == Page()


def test_only_serving_engines_are_asked_and_one_that_does_not_answer_leaves_a_gap(tmp_path: Path) -> None:
    starting = an_engine("e3", state=EngineState.STARTING)
    fleet = Engines(an_engine("e1"), an_engine("e2"), starting, an_engine("t1", owner="trial/st-1/0"))
    metrics = emulated()
    metrics.running = 5
    fleet.pages = dict.fromkeys(("e1", "e2", "e3", "t1"), metrics.text().decode())
    samples = SampleStore(tmp_path / "metrics.db")
    for moment, of_e2 in ((NOW, metrics.text().decode()), (after(15), "<html>{"), (after(30), None)):
        fleet.pages["e2"] = of_e2
        clock = FakeClock(moment)
        Scraper(fleet=fleet, samples=samples, clock=clock, fetch=fleet.fetch).run()
    source = ScrapedMetrics(samples, clock=lambda: after(30))
    assert source.read(MODEL).running == 10  # e2's of 30 s ago is not stale yet
    assert ScrapedMetrics(samples, clock=lambda: after(70)).read(MODEL).running == 5
    assert ScrapedMetrics(samples, clock=lambda: after(300)).read(MODEL) == EngineNumbers(model=MODEL, at=after(300))
    assert samples.newest() == after(30)


def test_an_engine_that_is_not_there_says_nothing() -> None:
    assert fetch_page(an_engine("e1")) is None


class Odd(BaseHTTPRequestHandler):
    """Answers by its path: a page where TensorRT-LLM has it, else a byte at a time, or without an end."""

    left = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            match self.path.split("/")[1]:
                case "prometheus":
                    self.wfile.write(b"a_gauge 1\n")
                case "endless":
                    while True:
                        self.wfile.write(b"# " + (1 << 16) * b"x" + b"\n")
                case _:
                    while not self.left.wait(0.02):
                        self.wfile.write(b"#")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def odd() -> Iterator[str]:
    Odd.left.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    Odd.left.set()
    server.shutdown()
    server.server_close()


def test_an_engine_is_asked_where_its_kind_has_its_page(odd: str) -> None:
    engine = an_engine("e1").evolve(url=odd)
    engine = engine.evolve(spec=engine.spec.evolve(kind=EngineKind.TENSORRT_LLM))
    assert fetch_page(engine) == "a_gauge 1\n"


@pytest.mark.parametrize("path", ["/endless", "/dripping"])
def test_an_engine_that_drips_or_never_ends_holds_up_nobody(odd: str, path: str) -> None:
    names = an_engine("e1").spec.driver.metrics.evolve(path=path)
    assert metrics_page(odd, names, timeout_s=0.3) is None


def test_what_is_older_than_a_day_goes_and_engines_beyond_the_limit_are_not_kept(tmp_path: Path) -> None:
    samples = SampleStore(tmp_path / "metrics.db")
    many = [(MODEL, f"e{number}", Page(running=1.0)) for number in range(MOST_ENGINES + 10)]
    samples.keep(many, at=NOW)
    assert len(samples.between(MODEL, NOW - KEPT, NOW)) == MOST_ENGINES
    samples.keep(many[:1], at=NOW + KEPT)
    assert len(samples.between(MODEL, NOW - KEPT, NOW + KEPT)) == MOST_ENGINES + 1
    samples.keep(many[:1], at=NOW + KEPT + timedelta(seconds=15))
    assert len(samples.between(MODEL, NOW - KEPT, NOW + 2 * KEPT)) == 2


def test_nothing_kept_is_nothing_known_and_a_broken_file_is_an_error(tmp_path: Path) -> None:
    assert ScrapedMetrics(SampleStore(tmp_path / "none.db"), clock=lambda: NOW).read(MODEL).running is None
    (tmp_path / "broken.db").write_bytes(b"no database at all, and long enough to be none" * 99)
    with pytest.raises(Unavailable, match=r"broken\.db"):
        ScrapedMetrics(SampleStore(tmp_path / "broken.db"), clock=lambda: NOW).read(MODEL)


def test_an_engine_that_was_restarted_adds_what_it_counted_since(tmp_path: Path) -> None:
    samples = SampleStore(tmp_path / "metrics.db")
    for second, counts in ((0, (1000, 1000)), (15, (1000, 1100)), (30, (7, 7))):
        page = Page(running=0.0, ttft_s=Buckets((0.1, INF), counts))
        samples.keep([(MODEL, "e1", page)], at=after(second))
    # 100 beyond the last finite bound, then 7 within: the 99th of 107 lies beyond
    assert ScrapedMetrics(samples, clock=lambda: after(30)).read(MODEL).ttft_p99_ms == 100
    kept = samples.between(MODEL, NOW - timedelta(seconds=1), after(30))
    assert increase([each.page.ttft_s for each in kept]) == Buckets((0.1, INF), (7, 107))


def test_a_series_of_a_percentile_has_gaps_where_nobody_asked(tmp_path: Path) -> None:
    samples = SampleStore(tmp_path / "metrics.db")
    for second, count in ((0, 0), (15, 10), (30, 20), (200, 20)):
        page = Page(running=1.0, ttft_s=Buckets((0.1, 0.2, INF), (0, count, count)))
        samples.keep([(MODEL, "e1", page)], at=after(second))
    source = ScrapedMetrics(samples, clock=lambda: after(200))
    found = source.series(MODEL, EngineNumber.TTFT_P99_MS, since=NOW, until=after(200), step_s=50)
    assert [None if each.value is None else round(each.value) for each in found] == [None, 199, None, None, None]


@settings(deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=8), st.floats(0.01, 0.999))
def test_a_quantile_lies_in_the_bucket_that_holds_it(added: list[int], rank: float) -> None:
    bounds = [*(0.1 * (index + 1) for index in range(len(added))), INF]
    counts = [*(sum(added[: index + 1]) for index in range(len(added))), sum(added)]
    found = quantile(rank, bounds, counts)
    if not counts[-1]:
        assert found is None
        return
    assert found is not None
    index = next(index for index, count in enumerate(counts) if count >= rank * counts[-1])
    assert (bounds[index - 1] if index else 0) - 1e-9 <= found <= bounds[index] + 1e-9


def test_the_benchmark_of_the_store_keeps_what_a_page_says(tmp_path: Path) -> None:
    engine = EngineMetrics(MODEL, 8192, {}, {}, CARD)
    engine.running, engine.kv_usage, engine.busy_share = 3, 0.25, 0.25
    engine.tpot_s.observe(0.02, 7)
    assert page_of(engine) == read_page(engine.text().decode(), VLLM.metrics)
    found = day(tmp_path, replicas=1, hours=2)
    assert found["store_mib"] - found["own_mib"] < 1, "of the engine"
    assert found["own_mib"] < 1, "of two gateways in front of eight revisions, and of the control plane"
