"""Engines' own numbers for who looks twice a second: never waited for, never old."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from controlplane.adapters.metrics_scrape.pressures import EnginePressures
from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.engines.gpu import GpuReading
from controlplane.domain.rollouts.pressure import Pressure
from controlplane.emulator.metrics import EngineMetrics
from tests.fakes.fleet import FakeClock
from tests.unit.observability.test_scraping import MODEL, an_engine

GIVES_UP_S = 60.0
RESIDENT_PAGE = f"process_resident_memory_bytes {2 * 2**30}\n"


def page(preemptions: int) -> str:
    metrics = EngineMetrics(MODEL, 8192, {}, {})
    metrics.preemptions, metrics.kv_usage, metrics.waiting = preemptions, 0.75, 3
    return metrics.text().decode()


def until(done: Callable[[], bool]) -> None:
    gives_up_s = time.monotonic() + GIVES_UP_S
    while not done():
        assert time.monotonic() < gives_up_s, "never came about"
        time.sleep(0.005)


def test_the_first_look_asks_and_a_later_one_has_the_answer() -> None:
    clock = FakeClock()
    reader = EnginePressures(clock=clock, fetch=lambda _: page(7))
    engine = an_engine("a")
    assert reader.read([engine]) == {}
    until(lambda: bool(reader.read([engine])))
    assert reader.read([engine]) == {EngineId("a"): Pressure(clock(), 7, 0.75, 3)}


def test_an_engine_that_does_not_answer_holds_nobody_up() -> None:
    answers = threading.Event()

    def fetch(engine: Engine) -> str:
        if engine.spec.engine_id == "hangs":
            answers.wait(GIVES_UP_S)
        return page(1)

    reader = EnginePressures(clock=FakeClock(), fetch=fetch)
    engines = [an_engine("hangs"), an_engine("b")]
    until(lambda: EngineId("b") in reader.read(engines))
    assert set(reader.read(engines)) == {"b"}
    answers.set()
    until(lambda: len(reader.read(engines)) == 2)


def test_what_is_old_is_not_told_and_is_asked_for_again() -> None:
    clock, told = FakeClock(), [1]
    reader = EnginePressures(clock=clock, fetch=lambda _: page(told[0]))
    engine = an_engine("a")
    until(lambda: bool(reader.read([engine])))
    told[0] = 2
    clock.go_on(6)
    assert reader.read([engine]) == {}
    until(lambda: bool(reader.read([engine])))
    assert reader.read([engine])[EngineId("a")].preemptions == 2


def test_what_is_no_page_is_a_gap() -> None:
    asked = threading.Event()

    def fetch(_: Engine) -> str | None:
        asked.set()
        return "<html>"

    reader = EnginePressures(clock=FakeClock(), fetch=fetch)
    reader.read([an_engine("a")])
    assert asked.wait(GIVES_UP_S)
    assert reader.read([an_engine("a")]) == {}


def test_a_host_s_gpus_are_asked_where_the_page_tells_of_none() -> None:
    class Host:
        def read(self, engines: Sequence[Engine]) -> Mapping[EngineId, Sequence[GpuReading]]:
            return {
                each.spec.engine_id: [GpuReading("0", 120.0, 160.0), GpuReading("1", 40.0, 160.0)] for each in engines
            }

    reader = EnginePressures(clock=FakeClock(), fetch=lambda _: page(1) + RESIDENT_PAGE, gpus=Host())
    engine = an_engine("a")
    until(lambda: bool(reader.read([engine])))
    told = reader.read([engine])[EngineId("a")]
    assert (told.gpu_memory, told.resident_gib) == (0.75, 2.0)
