"""GPUs are read from NVML and from pages, kept and shown: what a card does not tell is missing, and never zero."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gpu_metrics import looks
from controlplane.adapters.gpus_nvml import NvmlGpus
from controlplane.adapters.metrics_scrape.page import read_page
from controlplane.adapters.metrics_scrape.samples import SampleStore
from controlplane.adapters.metrics_scrape.scrape import Scraper
from controlplane.adapters.metrics_scrape.source import ScrapedMetrics
from controlplane.domain.engines.engine_metrics import EngineNumber
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.engines.gpu import (
    MOST_GPUS,
    EngineGpu,
    GpuReading,
    Throttle,
    from_dcgm,
    throttle_mask,
    throttles,
    to_dcgm,
)
from controlplane.domain.engines.kinds.vllm import VLLM
from controlplane.domain.errors import Unavailable
from controlplane.emulator.card import WINDOW_S, BusyMeter, Card
from controlplane.emulator.metrics import EngineMetrics
from tests.builders_serving import NOW, after
from tests.fakes.fleet import FakeClock
from tests.unit.observability.test_scraping import MODEL, Engines, an_engine

GIB = 2**30
CARD = Card(gpus=2, total_gib=140.0, awake_gib=128.0, asleep_gib=4.0, limit_w=700.0)


class NvmlError(Exception):
    """As pynvml's own: NVMLError."""


class FakeNvml:
    """The part of pynvml that is asked, with one card that knows all, one that knows memory only, and one lost."""

    NVMLError = NvmlError
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, *, library: bool = True) -> None:
        self.library = library
        self.opened = 0

    def nvmlInit(self) -> None:  # noqa: N802  # NVML's name
        if not self.library:
            raise NvmlError("NVML Shared Library Not Found")
        self.opened += 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        if not self.library:
            raise NvmlError("Driver/library version mismatch")
        return 3

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:  # noqa: N802
        if number == 2:
            raise NvmlError("GPU is lost")
        return number

    def nvmlDeviceGetMemoryInfo(self, _: int) -> Any:  # noqa: N802
        return SimpleNamespace(used=128 * GIB, total=140 * GIB)

    def __getattr__(self, name: str) -> Any:
        told = {
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=97),
            "nvmlDeviceGetPowerUsage": 650_500,
            "nvmlDeviceGetCurrentClocksThrottleReasons": 0x4 | 0x20,
            "nvmlDeviceGetTemperature": 71,
        }[name]

        def asked(number: int, *_: int) -> Any:
            if number == 1:
                raise NvmlError("Not Supported")
            return told

        return asked


FULL = GpuReading("0", 128.0, 140.0, 97.0, 650.5, 71.0, (Throttle.POWER_CAP, Throttle.SW_THERMAL))


def on(engine: Engine, *gpus: int) -> Engine:
    return engine.evolve(gpu_indices=gpus)


def test_a_card_is_read_whole_and_what_another_does_not_support_is_none() -> None:
    assert NvmlGpus(FakeNvml()).readings() == (FULL, GpuReading("1", 128.0, 140.0))


def test_each_engine_gets_its_own_gpus_and_one_whose_gpu_is_lost_gets_none() -> None:
    engines = [on(an_engine("e1"), 0), on(an_engine("e2"), 2), an_engine("e3"), on(an_engine("e4"), 9)]
    assert NvmlGpus(FakeNvml()).read(engines) == {"e1": (FULL,)}


def test_nvml_is_opened_once_and_again_after_it_failed() -> None:
    nvml = FakeNvml()
    gpus = NvmlGpus(nvml)
    gpus.readings()
    gpus.readings()
    assert nvml.opened == 1
    nvml.library = False
    with pytest.raises(Unavailable, match="mismatch"):
        gpus.readings()
    nvml.library = True
    assert gpus.readings()[0] == FULL
    assert nvml.opened == 2


def test_without_the_library_it_is_said_what_is_missing() -> None:
    with pytest.raises(Unavailable, match="GPUs cannot be read: NVML: NVML Shared Library Not Found"):
        NvmlGpus(FakeNvml(library=False)).readings()


def python(code: str, *words: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    return done.stdout


def test_the_adapter_needs_nothing_but_the_standard_library_and_nvml() -> None:
    code = """
import sys, benchmarks.gpu_metrics
allowed = {"controlplane", "benchmarks", "pynvml"} | set(sys.stdlib_module_names)
print(sorted({name.partition(".")[0] for name in sys.modules} - allowed - set(sys.argv[1:])))
"""
    known = {name.partition(".")[0] for name in python("import sys; print(*sys.modules)").split()}
    assert python(code, *known).strip() == "[]"


def test_the_benchmark_says_what_a_look_took_and_both_names() -> None:
    [look] = looks(NvmlGpus(FakeNvml()), seconds=0)
    assert look["took_ms"] >= 0
    assert (look["gpus"][0]["power_w"], look["gpus"][0]["dcgm"]["DCGM_FI_DEV_GPU_UTIL"]) == (650.5, 97.0)


numbers = st.none() | st.floats(0, 1e6)
readings = st.builds(
    GpuReading,
    gpu=st.just("0"),
    memory_used_gib=st.none() | st.floats(0, 100),
    memory_total_gib=st.floats(100, 200),
    utilisation_percent=numbers,
    power_w=numbers,
    temperature_c=numbers,
    throttled=st.none()
    | st.lists(st.sampled_from(Throttle), unique=True).map(lambda e: tuple(sorted(e, key=list(Throttle).index))),
)


@given(readings)
def test_a_reading_survives_the_exporters_names(reading: GpuReading) -> None:
    back = from_dcgm("0", {name.value: value for name, value in to_dcgm(reading).items()})
    assert (back.utilisation_percent, back.power_w, back.throttled) == (
        reading.utilisation_percent,
        reading.power_w,
        reading.throttled,
    )
    if reading.memory_used_gib is None:
        assert back.memory_total_gib is None, "a total without what is used tells nothing"
    else:
        assert back.memory_total_gib == pytest.approx(reading.memory_total_gib)


@given(st.integers(0, 2**12))
def test_idle_and_chosen_clocks_hold_nothing_back(mask: int) -> None:
    assert throttle_mask(throttles(mask)) == mask & 0b11111100


def test_an_emulated_engine_tells_of_its_gpus_and_asleep_it_gives_their_memory_back() -> None:
    metrics = EngineMetrics(MODEL, 8192, {}, {}, CARD)
    metrics.busy_share = 0.5
    first, second = read_page(metrics.text().decode(), VLLM.metrics).gpus
    assert (first.gpu, second.gpu) == ("0", "1")
    assert (first.memory_used_gib, first.memory_total_gib, first.utilisation_percent) == (128, 140, 50)
    assert first.power_w == pytest.approx(385)
    assert first.throttled == ()
    metrics.sleep_level = 1
    assert read_page(metrics.text().decode(), VLLM.metrics).gpus[0].memory_used_gib == 4
    assert read_page(metrics.blank().text().decode(), VLLM.metrics).gpus == ()


def test_steps_that_overlap_count_once_and_one_that_runs_counts_until_now() -> None:
    meter = BusyMeter()
    meter.add(10.0, 10.2)
    meter.add(10.1, 10.3)
    assert meter.share(10.5, running=False) == pytest.approx(0.3 / WINDOW_S)
    assert meter.share(10.5, running=True) == pytest.approx(0.5 / WINDOW_S)
    assert meter.share(99, running=False) == 0
    assert meter.share(99, running=True) == 1


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=40), st.floats(0, 3), st.booleans())
def test_a_share_lies_between_none_and_all(steps: list[tuple[float, float]], later_s: float, running: bool) -> None:
    meter, at_s = BusyMeter(), 0.0
    for gap_s, took_s in steps:
        meter.add(at_s + gap_s, at_s + gap_s + took_s)
        at_s += gap_s + took_s
    assert 0 <= meter.share(at_s + later_s, running=running) <= 1


class HostGpus:
    """GpuSource in memory."""

    def __init__(self, **told: GpuReading) -> None:
        self.told = told
        self.asked: list[str] = []
        self.broken = False

    def read(self, engines: Any) -> Any:
        if self.broken:
            raise Unavailable("GPUs cannot be read", why="NVML: gone")
        self.asked = [each.spec.engine_id for each in engines]
        return {name: (reading,) for name, reading in self.told.items() if name in self.asked}


def test_a_page_that_tells_of_gpus_is_believed_and_the_host_is_asked_for_the_others(tmp_path: Path) -> None:
    fleet = Engines(on(an_engine("e1"), 0), on(an_engine("e2"), 1))
    emulated, real = EngineMetrics(MODEL, 8192, {}, {}, CARD), EngineMetrics(MODEL, 8192, {}, {})
    fleet.pages = {"e1": emulated.text().decode(), "e2": real.text().decode()}
    host, samples = HostGpus(e1=FULL, e2=FULL), SampleStore(tmp_path / "metrics.db")
    Scraper(fleet=fleet, samples=samples, clock=FakeClock(NOW), fetch=fleet.fetch, gpus=host).run()
    found = ScrapedMetrics(samples, clock=lambda: NOW).gpus(MODEL)
    assert host.asked == ["e2"]
    assert [(each.engine, each.reading.gpu) for each in found] == [("e1", "0"), ("e1", "1"), ("e2", "0")]
    assert found[-1] == EngineGpu("e2", FULL)


def test_a_host_that_cannot_be_asked_takes_nothing_else_away_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fleet, metrics = Engines(on(an_engine("e1"), 0)), EngineMetrics(MODEL, 8192, {}, {})
    metrics.running = 5
    fleet.pages = {"e1": metrics.text().decode()}
    host, samples = HostGpus(e1=FULL), SampleStore(tmp_path / "metrics.db")
    host.broken = True
    clock = FakeClock(NOW)
    scraper = Scraper(fleet=fleet, samples=samples, clock=clock, fetch=fleet.fetch, gpus=host)
    scraper.run()
    scraper.run()
    read = ScrapedMetrics(samples, clock=lambda: NOW).read(MODEL)
    assert (read.running, read.gpu_percent, read.gpu_power_w) == (5, None, None)
    assert [each.message for each in caplog.records] == ["GPUs cannot be read: NVML: gone"]
    host.broken = False
    scraper.run()
    assert ScrapedMetrics(samples, clock=lambda: NOW).read(MODEL).gpu_percent == 97


def test_no_more_gpus_of_an_engine_are_kept_than_it_can_have(tmp_path: Path) -> None:
    lines = "".join(f'DCGM_FI_DEV_GPU_UTIL{{gpu="{number:03}"}} 1\n' for number in range(500))
    assert len(read_page(lines, VLLM.metrics).gpus) == MOST_GPUS


def test_a_day_of_gpus_is_read_with_gaps_and_what_is_older_goes(tmp_path: Path) -> None:
    samples = SampleStore(tmp_path / "metrics.db")
    page = read_page(EngineMetrics(MODEL, 8192, {}, {}, CARD).text().decode(), VLLM.metrics)
    for second in (0, 15, 200):
        samples.keep([(MODEL, "e1", page)], at=after(second))
    source = ScrapedMetrics(samples, clock=lambda: after(200))
    found = source.series(MODEL, EngineNumber.GPU_POWER_W, since=NOW, until=after(200), step_s=50)
    assert [each.value for each in found] == [140, 140, None, None, 140]
    samples.keep([], at=after(86_400 + 100))
    assert len(samples.gpus_between(MODEL, NOW, after(90_000))) == 2
