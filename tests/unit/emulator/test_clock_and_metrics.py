"""Emulated time, the timers it rests on, and the counting behind /metrics."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from controlplane.emulator.clock import LapsedClock, precise_event_loop
from controlplane.emulator.faults import Faults, MetricsFault, parse_faults
from controlplane.emulator.metrics import EngineMetrics, Histogram


class Wall:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_lapsed_clock_runs_at_its_speed_from_where_it_started() -> None:
    wall = Wall()
    clock = LapsedClock(wall, 10)
    wall.now_s += 2
    assert (clock.now(), clock.wall_at(20.0), clock.span(0.5)) == (20, 102, 5)


def test_a_change_of_speed_makes_no_jump() -> None:
    wall = Wall()
    clock = LapsedClock(wall, 1)
    wall.now_s += 4
    clock.change_speed(0.5)
    assert clock.now() == 4
    wall.now_s += 2
    assert clock.now() == 5
    assert clock.wall_at(6) == 108


def test_a_stopped_clock_stands_until_it_goes_and_one_that_goes_never_jumps() -> None:
    wall = Wall()
    clock = LapsedClock(wall, 2)
    wall.now_s += 3
    clock.go()  # it was not stopped
    assert clock.now() == 6
    clock.stop()
    wall.now_s += 5
    assert clock.now() == 6
    clock.go()
    wall.now_s += 1
    assert clock.now() == 8


@given(st.floats(0.1, 50), st.floats(0, 1e4))
def test_wall_and_emulated_moments_are_inverse(speed: float, emulated_s: float) -> None:
    clock = LapsedClock(Wall(), speed)
    assert clock.at(clock.wall_at(emulated_s)) == pytest.approx(emulated_s, abs=1e-6)


def test_the_precise_loop_runs_timers_in_order_and_sees_its_sockets() -> None:
    async def talk() -> list[str]:
        seen: list[str] = []
        loop = asyncio.get_running_loop()
        for delay_s in (0.003, 0.001, 0.002):
            loop.call_later(delay_s, seen.append, f"{delay_s}")
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
        await asyncio.sleep(0.01)
        return seen

    with asyncio.Runner(loop_factory=precise_event_loop) as runner:
        assert runner.run(talk()) == ["0.001", "0.002", "0.003"]


@given(st.lists(st.floats(0, 20), max_size=50))
def test_a_histogram_counts_like_prometheus(values: list[float]) -> None:
    bounds = (0.1, 1.0, 10.0)
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    counts = [count for _, count in histogram.buckets()]
    assert counts == [*(sum(value <= bound for value in values) for bound in bounds), len(values)]
    assert histogram.sum == pytest.approx(sum(values))


def test_broken_metrics_keep_their_names_and_lose_their_numbers() -> None:
    metrics = EngineMetrics("m", 8192, {"time_lapse": "1"}, {"block_size": "16"})
    metrics.generation_tokens, metrics.running = 7, 3
    names = [
        {family.name for family in text_string_to_metric_families(each.text().decode())}
        for each in (metrics, metrics.blank())
    ]
    assert names[0] == names[1]
    assert b'vllm:generation_tokens_total{engine="0",model_name="m"} 7.0' in metrics.text()
    assert b'vllm:generation_tokens_total{engine="0",model_name="m"} 0.0' in metrics.blank().text()


def test_faults_are_read_from_one_word() -> None:
    wanted = Faults(slow_factor=2.5, out_of_memory=True, metrics=MetricsFault.MISSING)
    assert parse_faults("slow-factor=2.5,out_of_memory,metrics=missing") == wanted
    assert parse_faults("") == Faults()


@pytest.mark.parametrize(
    "text", ["slow-factor=0.5", "error-ratio=1.1", "crash-after-requests=0", "no-such=1", "metrics=x"]
)
def test_wrong_faults_are_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="name=value"):
        parse_faults(text)
