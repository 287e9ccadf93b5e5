"""A problem that lasts is said once by every loop, and again when it comes back."""

from __future__ import annotations

import logging
import threading

import pytest

from controlplane.domain.errors import Unavailable
from controlplane.services.studies.heartbeat import Heartbeat
from controlplane.telemetry.lasting import Lasting
from controlplane.worker import repeat, telling

FOUR = 4


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_what_lasts_is_said_once_and_what_comes_back_again(caplog: pytest.LogCaptureFixture) -> None:
    lasting = Lasting(logging.getLogger("some.loop"))
    for problems in (["a"], ["a", "b"], ["b"], [], ["a"]):
        lasting.tell(problems)
    assert said(caplog) == ["a", "b", "a"]


def test_a_pass_with_the_same_trouble_every_time_says_it_once(caplog: pytest.LogCaptureFixture) -> None:
    stop, turns = threading.Event(), iter([["adapter x cannot be loaded"]] * FOUR)

    def run() -> list[str]:
        found = next(turns, [])
        if not found:
            stop.set()
        return found

    repeat(telling(run, logging.getLogger("some.loop")), every_s=0, stop=stop)
    assert said(caplog) == ["adapter x cannot be loaded"]


def test_a_store_that_is_away_for_many_passes_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    stop, passes = threading.Event(), iter("xx.xx")

    def one_pass() -> bool:
        turn = next(passes, None)
        if turn is None:
            stop.set()
        elif turn == "x":
            raise Unavailable("the store is away")
        return False

    repeat(one_pass, every_s=0, stop=stop)
    assert said(caplog) == ["Unavailable: the store is away"] * 2


def test_a_sign_of_life_that_cannot_be_given_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    beats: list[int] = []
    enough = threading.Event()

    def beat() -> str | None:
        beats.append(1)
        if len(beats) < FOUR:
            raise Unavailable("the store is away")
        enough.set()
        return "enough"

    with Heartbeat(beat, every_s=0.001):
        assert enough.wait(240)
    assert said(caplog) == ["no sign of life could be given: the store is away"]
