"""What an attack did to a gateway is told by CPU time, whatever else the machine does."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path

import pytest

from benchmarks.attacks import held, longest
from benchmarks.doors import watched
from benchmarks.doors.watched import LEAST_MS, Held


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Held]:
    found: list[Held] = []
    monkeypatch.setattr(asyncio.Handle, "_run", asyncio.Handle._run)
    watched.watch(found.append)
    threading.setprofile(None)
    return found


def busy(cpu_s: float) -> None:
    end = time.thread_time() + cpu_s
    while time.thread_time() < end:
        pass


def test_a_callback_that_computes_is_told_and_one_that_waits_is_not(told: list[Held]) -> None:
    async def computes() -> None:
        busy(4 * LEAST_MS / 1000)

    async def waits() -> None:
        time.sleep(4 * LEAST_MS / 1000)  # noqa: ASYNC251  # it is to hold the loop

    asyncio.run(waits())
    assert not told
    asyncio.run(computes())
    (found,) = told
    assert (found.where, found.cpu_ms >= 4 * LEAST_MS) == ("loop", True)
    assert found.what.endswith("computes")


def test_a_long_call_into_c_on_a_thread_is_told() -> None:
    found: list[Held] = []
    threading.setprofile(watched._calls(found.append))
    thread = threading.Thread(target=lambda: json.loads("[" + "1," * 1_000_000 + "1]"))
    thread.start()
    thread.join()
    threading.setprofile(None)
    assert {each.where for each in found} == {"thread"}


def test_the_longest_of_each_is_told_and_a_gateway_that_wrote_nothing_held_nothing(tmp_path: Path) -> None:
    path = tmp_path / "holds"
    assert held(path) == []
    lines = [Held("loop", "a", 3.0), Held("thread", "b", 9.0), Held("loop", "c", 5.0), Held("loop", "d", 4.0)]
    path.write_text("".join(json.dumps(each._asdict()) + "\n" for each in lines))
    assert set(longest(held(path))) == {lines[1], lines[2]}
