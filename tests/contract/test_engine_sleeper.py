"""What every EngineSleeper does, on the fake and on a running emulated engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from controlplane.adapters.engine_sleep import HttpSleeper
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.errors import InvalidInput, Unavailable
from controlplane.ports.sleeping import EngineSleeper
from tests.fakes.sleeper import FakeSleeper
from tests.integration.gateway.test_emulated_engines import emulated
from tests.unit.observability.test_scraping import an_engine

pytestmark = pytest.mark.slow


@asynccontextmanager
async def subject(
    kind: str, monkeypatch: pytest.MonkeyPatch, *, able: bool = True
) -> AsyncIterator[tuple[EngineSleeper, Engine]]:
    if kind == "fake":
        fake = FakeSleeper()
        fake.unable = set() if able else {an_engine("e1").spec.engine_id}
        yield fake, an_engine("e1")
        return
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1" if able else "0")
    async with emulated("e1", "--enable-sleep-mode", "--emulator-time-lapse=50") as engine:
        sleeper = HttpSleeper()
        yield sleeper, an_engine("e1").evolve(url=engine.url)
        sleeper.close()


@pytest.mark.parametrize("kind", ["fake", "emulator"])
async def test_an_engine_sleeps_and_wakes_and_twice_is_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with subject(kind, monkeypatch) as (sleeper, engine):
        assert not await asyncio.to_thread(sleeper.is_sleeping, engine)
        for _ in range(2):
            await asyncio.to_thread(sleeper.sleep, engine)
            assert await asyncio.to_thread(sleeper.is_sleeping, engine)
        for _ in range(2):
            await asyncio.to_thread(sleeper.wake, engine)
            assert not await asyncio.to_thread(sleeper.is_sleeping, engine)


@pytest.mark.parametrize("kind", ["fake", "emulator"])
async def test_one_whose_weights_were_dropped_reads_them_again(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with subject(kind, monkeypatch) as (sleeper, engine):
        await asyncio.to_thread(sleeper.sleep, engine, level=2)
        assert await asyncio.to_thread(sleeper.is_sleeping, engine)
        for _ in range(2):
            await asyncio.to_thread(sleeper.wake, engine, level=2)
            assert not await asyncio.to_thread(sleeper.is_sleeping, engine)


@pytest.mark.parametrize("kind", ["fake", "emulator"])
async def test_one_that_cannot_sleep_says_so(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with subject(kind, monkeypatch, able=False) as (sleeper, engine):
        with pytest.raises(InvalidInput, match="cannot sleep"):
            await asyncio.to_thread(sleeper.sleep, engine)


def test_one_that_is_not_there_is_unavailable() -> None:
    fake = FakeSleeper()
    fake.silent = {an_engine("e1").spec.engine_id}
    sleepers: list[EngineSleeper] = [fake, HttpSleeper()]
    for sleeper in sleepers:
        with pytest.raises(Unavailable, match="does not answer"):
            sleeper.is_sleeping(an_engine("e1"))


def test_an_answer_that_says_nothing_is_unavailable() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=[]))
    with pytest.raises(Unavailable, match="does not say"):
        HttpSleeper(transport).is_sleeping(an_engine("e1"))
