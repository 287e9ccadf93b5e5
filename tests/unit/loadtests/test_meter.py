"""What ends a stream's time: its closing chunk, which is no token and leaves no gap."""

from __future__ import annotations

import pytest

from loadtests.measure.meter import TokenMeter

TEXT = b'{"choices":[{"text":"a"}]}'
DELTA = b'{"choices":[{"delta":{"content":"a"}}]}'


@pytest.mark.parametrize(
    ("token", "closing"),
    [
        (TEXT, b'{"choices":[{"text":"","finish_reason":"stop"}]}'),
        (DELTA, b'{"choices":[{"delta":{},"finish_reason":"stop"}]}'),
    ],
    ids=["completion", "chat"],
)
def test_a_request_lasts_until_its_closing_chunk_that_is_no_token(token: bytes, closing: bytes) -> None:
    meter = TokenMeter()
    for data, at_ns in ((token, 1_000_000), (token, 3_000_000), (closing, 8_000_000)):
        meter.take(b"", data, at_ns)
    assert (meter.first_ns, meter.last_ns, meter.finished) == (1_000_000, 8_000_000, True)
    assert (meter.events, list(meter.gaps_us)) == (2, [2000])


def test_what_comes_after_the_closing_chunk_ends_nothing_later() -> None:
    meter = TokenMeter()
    for data, at_ns in (
        (TEXT, 1_000_000),
        (b'{"choices":[{"text":"","finish_reason":"length"}]}', 2_000_000),
        (b'{"choices":[],"usage":{"completion_tokens":1,"prompt_tokens":3}}', 5_000_000),
        (b"[DONE]", 6_000_000),
    ):
        meter.take(b"", data, at_ns)
    assert (meter.last_ns, meter.output_tokens, meter.usage_prompt) == (2_000_000, 1, 3)
