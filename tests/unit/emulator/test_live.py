"""The live engine hands every token to whom it belongs, whoever else hangs up meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from controlplane.domain.errors import InvalidInput
from controlplane.emulator.boot import engine_setup
from controlplane.emulator.clock import LapsedClock, precise_event_loop
from controlplane.emulator.flags import parse_command_line
from controlplane.emulator.live import Ask, LiveEngine
from controlplane.emulator.metrics import EngineMetrics
from tuner.twin.engine import TwinEngine

LAPSE = 50.0


class Ear:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.tokens = 0
        self.finishes = 0

    def deliver(self, tokens: int, finished: bool) -> None:
        self.tokens += tokens
        self.finishes += finished


def a_live_engine(*flags: str) -> tuple[LiveEngine, EngineMetrics]:
    """An engine that lives fifty times as fast as the clock on the wall."""
    wall = asyncio.get_running_loop().time
    _, setup = engine_setup(parse_command_line(["llama-8b", "--max-model-len=8192", *flags], visible_devices=None))
    metrics = EngineMetrics("m", setup.max_model_len, {}, {})
    own, outside = LapsedClock(wall, LAPSE), LapsedClock(wall, LAPSE)
    return LiveEngine(TwinEngine(setup), wall=wall, own=own, outside=outside, metrics=metrics), metrics


def run(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=precise_event_loop) as runner:
        runner.run(work)


def submit(engine: LiveEngine, ask: Ask, ear: Ear) -> int:
    now_s = asyncio.get_running_loop().time()
    return engine.submit(ask, ear, received_wall_s=now_s, finish_reason="length")


async def idle(engine: LiveEngine) -> None:
    async with asyncio.timeout(240):
        while engine.in_flight:  # noqa: ASYNC110  (the engine has no event for this, nobody but a test waits for it)
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("flags", [(), ("--num-gpu-blocks-override=600",), ("--stream-interval=4",)])
def test_everybody_who_stays_gets_every_token_and_nothing_is_left_behind(flags: tuple[str, ...]) -> None:
    async def work() -> None:
        engine, metrics = a_live_engine("--max-num-seqs=32", *flags)
        living = asyncio.create_task(engine.run())
        draw = random.Random(1)
        stayed: list[tuple[Ask, Ear]] = []
        left: list[tuple[Ask, Ear]] = []
        for number in range(150):
            ask, ear = Ask(draw.randint(1, 2000), draw.randint(1, 60)), Ear()
            request = submit(engine, ask, ear)
            await asyncio.sleep(draw.uniform(0, 0.002))
            if number % 3 == 0:
                engine.cancel(request)
                left.append((ask, ear))
            else:
                stayed.append((ask, ear))
        await idle(engine)
        engine.refresh_metrics()
        assert not living.done()
        living.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await living
        assert [(ear.tokens, ear.finishes) for _, ear in stayed] == [(ask.max_tokens, 1) for ask, _ in stayed]
        assert all(ear.tokens <= ask.max_tokens for ask, ear in left)
        assert metrics.generation_tokens == sum(ear.tokens for _, ear in [*stayed, *left])
        assert (metrics.running, metrics.waiting, metrics.kv_usage) == (0, 0, 0)

    run(work())


def test_a_request_the_engine_can_never_run_leaves_nothing_behind() -> None:
    async def work() -> None:
        engine, _ = a_live_engine("--num-gpu-blocks-override=600")
        with pytest.raises(InvalidInput):
            submit(engine, Ask(8000, 8000), Ear())
        assert engine.in_flight == 0

    run(work())


def test_cancelling_twice_counts_once() -> None:
    async def work() -> None:
        engine, metrics = a_live_engine()
        request = submit(engine, Ask(10, 10), Ear())
        engine.cancel(request)
        engine.cancel(request)
        engine.cancel(request + 1)
        assert metrics.finished["abort"] == 1

    run(work())
