"""What every MetricsSource does, on the fake and on a real Prometheus filled with an engine's metrics."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from controlplane.adapters.metrics_prometheus import PrometheusMetrics
from controlplane.adapters.metrics_scrape.page import read_page
from controlplane.adapters.metrics_scrape.samples import SampleStore
from controlplane.adapters.metrics_scrape.source import ScrapedMetrics
from controlplane.domain.engines.engine_metrics import EngineNumber, EngineNumbers
from controlplane.domain.engines.gpu import EngineGpu, GpuReading, Throttle, to_dcgm
from controlplane.domain.engines.kinds.vllm import VLLM
from controlplane.host.ports import free_port
from controlplane.ports.metrics import MetricsSource
from tests.fakes.metrics_source import FakeMetricsSource

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ODD = 'team "a"\\b'
STALE_AFTER_S = 60.0
START_S = 240.0

Numbers = Sequence[EngineNumbers]


def numbers(seconds_ago: float, **known: float) -> EngineNumbers:
    return EngineNumbers(model="chat", at=NOW - timedelta(seconds=seconds_ago), **known)


SCRAPED: Numbers = [
    *(numbers(ago, waiting=3, running=40, kv_usage_percent=75) for ago in range(90, 10, -15)),
    numbers(5, waiting=7, running=64, kv_usage_percent=80),
    EngineNumbers(model="gone", at=NOW - timedelta(seconds=200), waiting=9, running=9, kv_usage_percent=9),
    numbers(5, waiting=0, running=1, kv_usage_percent=1).evolve(model="busy", ttft_p99_ms=460),
    numbers(5, waiting=0, running=1, kv_usage_percent=1).evolve(model="squeezed", preemptions_per_s=20 / 45),
    numbers(5, waiting=0, running=1, kv_usage_percent=1).evolve(model="restarted", ttft_p99_ms=460),
    EngineNumbers(model=ODD, at=NOW - timedelta(seconds=5), waiting=1, running=1, kv_usage_percent=1),
]


FIRST = GpuReading("0", 132.0, 140.0, 96.0, 650.0, 71.0, (Throttle.POWER_CAP,))
SECOND = GpuReading("1", 126.0, 140.0, 90.0, 600.0, 64.0, ())
LITTLE = GpuReading("0", utilisation_percent=50.0)
"""A card that tells nothing else."""
GPUS = (("chat", "00", 5, FIRST), ("chat", "00", 5, SECOND), ("busy", "21", 5, LITTLE), ("gone", "10", 200, FIRST))
"""Model, engine, seconds ago, reading."""


MODELS = list(dict.fromkeys(each.model for each in SCRAPED))


def _openmetrics(scraped: Numbers) -> str:
    """Two engines per model that share the counts, the second the fuller one; as Prometheus's own tool reads them."""
    lines: list[str] = []
    for name, value in (("num_requests_waiting", "waiting"), ("num_requests_running", "running")):
        lines.append(f"# TYPE vllm:{name} gauge")
        lines += [_line(name, each, engine, getattr(each, value) / 2) for each in scraped for engine in (0, 1)]
    lines.append("# TYPE vllm:kv_cache_usage_perc gauge")
    lines += [
        _line("kv_cache_usage_perc", each, engine, (each.kv_usage_percent or 0) / 100 / (2 - engine))
        for each in scraped
        for engine in (0, 1)
    ]
    return "\n".join([*lines, *_preempted(), *_histogram(), *_restarted(), *_lies(), *_gpu_lines(), "# EOF\n"])


def _gpu_lines() -> Iterator[str]:
    for model, engine, ago, reading in GPUS:
        at = (NOW - timedelta(seconds=ago)).timestamp()
        for name, value in to_dcgm(reading).items():
            yield f'{name}{{model_name="{model}",engine="{engine}",gpu="{reading.gpu}"}} {value} {at}'


def _preempted() -> Iterator[str]:
    """Two engines: one counts 10 in 45 s and was started again meanwhile, the other as many without."""
    yield "# TYPE vllm:num_preemptions counter"
    for engine, counts in (("70", (7, 0, 10)), ("71", (100, 105, 110))):
        for ago, count in zip((50, 30, 5), counts, strict=True):
            at = (NOW - timedelta(seconds=ago)).timestamp()
            yield f'vllm:num_preemptions_total{{model_name="squeezed",engine="{engine}"}} {count} {at}'


def _histogram() -> Iterator[str]:
    """Of 100 first tokens within the last minute 90 took up to 0.1 s, 10 up to 0.5 s: the 99th lies at 0.46 s."""
    yield "# TYPE vllm:time_to_first_token_seconds histogram"
    for ago, shares in ((50, (0, 0, 0)), (5, (90, 100, 100))):
        for bound, count in zip(("0.1", "0.5", "+Inf"), shares, strict=True):
            at = (NOW - timedelta(seconds=ago)).timestamp()
            name = "vllm:time_to_first_token_seconds_bucket"
            yield f'{name}{{model_name="busy",engine="20",le="{bound}"}} {count} {at}'


def _restarted() -> Iterator[str]:
    """An engine that counted far more, all of it fast, was started again: only what came since is of the minute."""
    for ago, shares in ((50, (9000, 9000, 9000)), (30, (0, 0, 0)), (5, (90, 100, 100))):
        for bound, count in zip(("0.1", "0.5", "+Inf"), shares, strict=True):
            at = (NOW - timedelta(seconds=ago)).timestamp()
            name = "vllm:time_to_first_token_seconds_bucket"
            yield f'{name}{{model_name="restarted",engine="30",le="{bound}"}} {count} {at}'


def _lies() -> Iterator[str]:
    """What cannot be true: less than nothing, no number at all."""
    at = (NOW - timedelta(seconds=5)).timestamp()
    for name, value in (("num_requests_waiting", "-3"), ("num_requests_running", "NaN"), ("kv_cache_usage_perc", "7")):
        yield f'vllm:{name}{{model_name="liar",engine="90"}} {value} {at}'


def _quoted(model: str) -> str:
    return model.replace("\\", "\\\\").replace('"', '\\"')


def _line(name: str, each: EngineNumbers, engine: int, value: float) -> str:
    who = f'model_name="{_quoted(each.model)}",engine="{MODELS.index(each.model)}{engine}"'
    return f"vllm:{name}{{{who}}} {value} {each.at.timestamp()}"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Prometheus that scraped what SCRAPED says, at those times."""
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "metrics").write_text(_openmetrics(SCRAPED))
    (folder / "prometheus.yml").write_text("{}")
    create = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(folder / "metrics"), str(folder / "data")]
    subprocess.run(create, check=True, capture_output=True)
    at = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address={at}", "--storage.tsdb.retention.time=100y"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await_ready(f"http://{at}")
        yield f"http://{at}"
    finally:
        process.terminate()
        process.wait()


def _await_ready(url: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/-/ready", trust_env=False, verify=False, timeout=240).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("Prometheus did not start")


def _fake() -> MetricsSource:
    fake = FakeMetricsSource(lambda: NOW, stale_after_s=STALE_AFTER_S)
    fake.scrape(EngineNumbers(model="liar", at=NOW, kv_usage_percent=100))
    for each in SCRAPED:
        fake.scrape(each)
    for model, engine, ago, reading in GPUS:
        fake.tell_gpus(model, engine, NOW - timedelta(seconds=ago), reading)
    return fake


def _scraped(path: Path) -> MetricsSource:
    """The local store after the same pages, one per engine and moment."""
    samples = SampleStore(path)
    pages: dict[tuple[float, str, str], list[str]] = {}
    for line in _openmetrics(SCRAPED).splitlines():
        if not line.startswith("#"):
            text, told_at = line.rsplit(" ", 1)
            named = (*(each.model for each in SCRAPED), "liar")
            model = next(each for each in named if f'model_name="{_quoted(each)}"' in text)
            pages.setdefault((float(told_at), model, text.split('engine="')[1].split('"')[0]), []).append(text)
    for (at_s, model, engine), lines in sorted(pages.items()):
        page = read_page("\n".join([*lines, ""]), VLLM.metrics)
        samples.keep([(model, engine, page)], at=datetime.fromtimestamp(at_s, UTC))
    return ScrapedMetrics(samples, clock=lambda: NOW, stale_after_s=STALE_AFTER_S)


@pytest.fixture(params=["fake", "scraped", "prometheus"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> MetricsSource:
    if request.param == "fake":
        return _fake()
    if request.param == "scraped":
        return _scraped(tmp_path / "metrics.db")
    url: str = request.getfixturevalue("prometheus")
    return PrometheusMetrics(url, clock=lambda: NOW, stale_after_s=STALE_AFTER_S)


def test_the_newest_numbers_of_all_engines_are_read_together(source: MetricsSource) -> None:
    found = source.read("chat")
    assert (found.at, found.waiting, found.running) == (NOW, 7, 64)
    assert found.kv_usage_percent == pytest.approx(80)


def test_what_was_never_told_is_none_and_not_zero(source: MetricsSource) -> None:
    found = source.read("chat")
    assert (found.ttft_p99_ms, found.tpot_p99_ms) == (None, None)


def test_a_percentile_is_of_the_requests_of_the_last_minute(source: MetricsSource) -> None:
    assert source.read("busy").ttft_p99_ms == pytest.approx(460)


@pytest.mark.parametrize("model", ["gone", "never-heard-of"])
def test_stale_or_missing_is_none_and_not_zero(source: MetricsSource, model: str) -> None:
    assert source.read(model) == EngineNumbers(model=model, at=NOW)


def test_counters_that_were_reset_are_counted_from_their_reset(source: MetricsSource) -> None:
    assert source.read("restarted").ttft_p99_ms == pytest.approx(460)


def test_preemptions_are_a_rate_of_all_engines_and_a_reset_counts_from_nothing(source: MetricsSource) -> None:
    assert source.read("squeezed").preemptions_per_s == pytest.approx(20 / 45, rel=0.02)
    assert source.read("chat").preemptions_per_s is None


def test_what_cannot_be_true_is_none_and_what_is_over_full_is_full(source: MetricsSource) -> None:
    found = source.read("liar")
    assert (found.waiting, found.running, found.kv_usage_percent) == (None, None, 100)


def test_a_model_of_any_name_is_found(source: MetricsSource) -> None:
    assert source.read(ODD).running == 1


def test_a_series_has_a_point_per_step_with_gaps_as_none(source: MetricsSource) -> None:
    since = NOW - timedelta(seconds=120)
    found = source.series("chat", EngineNumber.RUNNING, since=since, until=NOW, step_s=30)
    assert [(NOW - point.at).total_seconds() for point in found] == [120, 90, 60, 30, 0]
    assert [point.value for point in found] == [None, 40, 40, 40, 64]


def test_each_gpu_is_told_as_its_card_told_it_and_a_stale_one_is_not_there(source: MetricsSource) -> None:
    assert source.gpus("chat") == [EngineGpu("00", FIRST), EngineGpu("00", SECOND)]
    assert source.gpus("busy") == [EngineGpu("21", LITTLE)]
    assert [*source.gpus("gone"), *source.gpus("never-heard-of")] == []


def test_gpus_together_are_the_mean_the_fullest_and_the_sum(source: MetricsSource) -> None:
    found = source.read("chat")
    assert (found.gpu_percent, found.gpu_power_w) == (93, 1250)
    assert found.gpu_memory_percent == pytest.approx(100 * 132 / 140)


def test_what_a_card_does_not_tell_is_none_and_not_zero(source: MetricsSource) -> None:
    found = source.read("busy")
    assert (found.gpu_percent, found.gpu_power_w, found.gpu_memory_percent) == (50, None, None)


Answer = tuple[int, bytes]
