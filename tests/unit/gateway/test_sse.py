"""Streams are watched without being changed, however they are cut into pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.gateway.sse import LARGEST_EVENT_BYTES, StreamWatch

ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
TOKEN = 'data: {"choices":[{"delta":{"content":"é"}}]}\n\n'.encode()
EMPTY_TOKEN = b'data: {"choices":[{"delta":{"content":""}}]}\n\n'
TEXT = b'data: {"choices":[{"text":"x","finish_reason":null}]}\n\n'
TOOL = b'data: {"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}\n\n'
FINISH = b'data: {"choices":[{"delta":{},"finish_reason":"length"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":9}}\n\n'
DONE = b"data: [DONE]\n\n"


def watched(*chunks: bytes) -> StreamWatch:
    watch = StreamWatch()
    for instant, chunk in enumerate(chunks):
        watch.feed(chunk, float(instant))
    return watch


def test_the_opening_event_of_a_chat_is_no_token() -> None:
    watch = watched(ROLE, TOKEN, TOKEN, FINISH, DONE)
    assert (watch.events, watch.first_token_at, watch.last_token_at) == (2, 1.0, 2.0)


def test_a_token_without_text_is_a_token() -> None:
    assert watched(ROLE, EMPTY_TOKEN, FINISH).output_tokens == 1


def test_completions_and_tool_calls_count() -> None:
    assert watched(TEXT, TOOL).output_tokens == 2


def test_the_engines_own_count_wins() -> None:
    watch = watched(TOKEN, USAGE, DONE)
    assert (watch.output_tokens, watch.usage["prompt_tokens"]) == (9, 3)


def test_the_longest_gap_between_tokens_is_kept() -> None:
    watch = StreamWatch()
    for instant in (1.0, 1.1, 1.6, 1.7):
        watch.feed(TOKEN, instant)
    assert watch.max_gap_s == 0.5


def test_a_stream_ends_with_done_or_a_finish_reason() -> None:
    assert not watched(TOKEN).ended
    assert watched(TOKEN, DONE).ended
    assert watched(TOKEN, FINISH).ended


def test_a_stream_is_silent_only_while_its_engine_is_to_send_the_next_token() -> None:
    assert watched(ROLE).silent_since() is None
    assert watched(ROLE, TOKEN, TOKEN).silent_since() == 2.0
    assert watched(ROLE, TOKEN, FINISH).silent_since() is None
    slow_client = watched(ROLE, TOKEN)
    slow_client.delivering = True
    assert slow_client.silent_since() is None


def test_an_error_event_is_noted() -> None:
    assert watched(b'data: {"error":{"message":"no"}}\n\n').failed


@given(cuts=st.lists(st.integers(0, 600), max_size=12), windows=st.booleans())
def test_any_cutting_gives_the_same_bytes_and_the_same_counts(cuts: list[int], windows: bool) -> None:
    whole = b": comment\n\n" + ROLE + TOKEN * 3 + b"event: x\nid: 1\n" + TOKEN + FINISH + USAGE + DONE
    whole = whole.replace(b"\n", b"\r\n") if windows else whole
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    watch = StreamWatch()
    passed = [watch.feed(whole[a:b], 0.0) for a, b in pairwise(edges)]
    assert b"".join(passed) + watch.finish(0.0) == whole
    assert all(piece.endswith((b"\n\n", b"\r\n\r\n")) for piece in passed if piece)
    assert (watch.events, watch.output_tokens, watch.done, watch.finished) == (4, 9, True, True)


def test_half_an_event_is_held_back() -> None:
    watch = StreamWatch()
    assert watch.feed(TOKEN + TOKEN[:10], 0.0) == TOKEN
    assert watch.feed(TOKEN[10:], 0.0) == TOKEN


def test_an_endless_event_is_passed_on_unread() -> None:
    watch = StreamWatch()
    endless = b"data: " + b"x" * LARGEST_EVENT_BYTES
    assert watch.feed(endless, 0.0) == endless
    assert watch.finish(0.0) == b""


def test_what_is_no_json_is_passed_on_and_not_counted() -> None:
    odd = b'data: {broken\n\ndata: [1]\n\ndata: null\n\ndata: {"choices": 3}\n\ndata: {"choices": [3]}\n\n'
    watch = StreamWatch()
    assert watch.feed(odd, 0.0) == odd
    assert (watch.events, watch.failed, watch.ended) == (0, False, False)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize("last", [b"data: [DONE]", TOKEN.rstrip(), b"event: x\ndata: [DONE]"])
def test_a_last_event_without_its_blank_line_is_made_whole(last: bytes, end: bytes) -> None:
    watch = StreamWatch()
    assert watch.feed(TOKEN + last + end, 0.0) == TOKEN
    assert watch.finish(0.0) == last + b"\n\n"
    assert (watch.done, watch.events) == (b"[DONE]" in last, 2 - (b"[DONE]" in last))


@given(cut=st.integers(1, len(TOKEN.rstrip()) - 1))
def test_half_an_event_at_the_end_is_dropped(cut: int) -> None:
    watch = StreamWatch()
    assert watch.feed(TOKEN + TOKEN[:cut], 0.0) == TOKEN
    assert watch.finish(0.0) == b""
    assert (watch.events, watch.ended) == (1, False)


@pytest.mark.parametrize("newline", [b"\r", b"\r\n"])
def test_every_line_end_of_the_standard_ends_an_event(newline: bytes) -> None:
    whole = (TOKEN + FINISH + DONE).replace(b"\n", newline)
    watch = StreamWatch()
    assert watch.feed(whole, 0.0) == whole
    assert (watch.events, watch.done, watch.finished) == (1, True, True)
