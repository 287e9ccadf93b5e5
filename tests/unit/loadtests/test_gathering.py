"""How long the client lets tokens gather before it reads."""

from __future__ import annotations

import pytest

from loadtests.measure.meter import TokenMeter
from loadtests.send.client.gathering import Gathering


def stream(gap_ms: int, tokens: int = 33) -> TokenMeter:
    meter = TokenMeter()
    for number in range(tokens):
        meter.take(b"", b'{"choices":[{"text":"a"}]}', 1 + number * gap_ms * 1_000_000)
    return meter


def unevenly(gap_ms: int) -> TokenMeter:
    """A stream of which two tokens were read in one piece."""
    meter = stream(gap_ms)
    meter.take(b"", b'{"choices":[{"text":"a"}]}', meter.last_ns)
    return meter


@pytest.mark.parametrize(("gap_ms", "moment_ms"), [(2, 1.0), (8, 4.0), (12, 5.0), (1000, 5.0)])
def test_moment_follows_half_of_the_gaps_up_to_a_limit(gap_ms: int, moment_ms: float) -> None:
    gathering = Gathering(time_lapse=1.0)
    for _ in range(100):
        gathering.learn(stream(gap_ms))
    assert gathering.moment_ns(streams=100) == pytest.approx(moment_ms * 1e6, rel=0.01)


def test_tokens_read_together_make_the_moment_shorter_until_long_none_were() -> None:
    gathering = Gathering(time_lapse=1.0)
    for _ in range(100):
        gathering.learn(unevenly(4))
    assert gathering.moment_ns(streams=100) == pytest.approx(1e6, rel=0.05)
    for _ in range(8):
        gathering.learn(stream(4))
    assert gathering.moment_ns(streams=100) == pytest.approx(1.5e6, rel=0.05)
    for _ in range(100):
        gathering.learn(stream(4))
    assert gathering.moment_ns(streams=100) == pytest.approx(2e6, rel=0.05)


def test_one_very_slow_stream_is_soon_forgotten() -> None:
    gathering = Gathering(time_lapse=1.0)
    gathering.learn(stream(60_000))
    for _ in range(16):
        gathering.learn(stream(2))
    assert gathering.moment_ns(streams=100) < 1.5e6


def test_few_streams_are_read_at_once() -> None:
    gathering = Gathering(time_lapse=1.0)
    assert gathering.moment_ns(streams=3) == 0
    assert gathering.moment_ns(streams=4) > 0


def test_stream_of_one_token_teaches_nothing() -> None:
    gathering = Gathering(time_lapse=1.0)
    before = gathering.moment_ns(streams=9)
    gathering.learn(stream(100, tokens=1))
    assert gathering.moment_ns(streams=9) == before
