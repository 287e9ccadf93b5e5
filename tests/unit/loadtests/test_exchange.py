"""One answer as bytes: right counts and times for every stream shape, errors for every broken one, never a surprise."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.send.client.exchange import Exchange
from loadtests.send.http1 import ProtocolError, ResponseParser
from tests.unit.loadtests.stream_shapes import ERRORS
from tests.unit.loadtests.streams import CORPUS, VLLM_COMPLETION, chunked, cut

PLACES = st.lists(st.integers(0, 9000), max_size=60)


def receive(pieces: list[bytes], *, closed: bool = False, cancel_after: int = 0) -> Exchange:
    """Feed pieces one millisecond apart, the first at 1 ms."""
    exchange = Exchange(0, 0, 0, cancel_after)
    at_ns = 0
    for piece in pieces:
        at_ns += 1_000_000
        if not exchange.done:
            exchange.feed(piece, at_ns)
    if closed and not exchange.done:
        exchange.peer_closed(at_ns + 1)
    return exchange


def _ends(event: bytes) -> bool:
    """Whether a stream counts as whole once it has this event."""
    return event.startswith((b"data: [DONE]", b"data:[DONE]")) or (
        b'"finish_reason":' in event and b'"finish_reason":null' not in event
    )


@pytest.mark.parametrize("name", CORPUS)
@given(inner=PLACES, outer=PLACES)
def test_any_chunking_gives_the_same_tokens(name: str, inner: list[int], outer: list[int]) -> None:
    shape = CORPUS[name]
    exchange = receive(cut(chunked(cut(shape.body, inner)), outer))
    assert exchange.done
    assert exchange.error is None
    assert (exchange.meter.output_tokens, exchange.meter.events) == (shape.tokens, shape.events)
    assert exchange.reusable


@pytest.mark.parametrize("name", ERRORS)
@given(inner=PLACES, outer=PLACES)
def test_error_after_some_tokens_is_an_error_however_it_is_cut(name: str, inner: list[int], outer: list[int]) -> None:
    exchange = receive(cut(chunked(cut(ERRORS[name], inner)), outer))
    assert exchange.error == "stream_error"
    assert exchange.meter.events == 1


def test_first_and_last_token_have_the_instants_of_their_pieces() -> None:
    events = [event + b"\n\n" for event in VLLM_COMPLETION.split(b"\n\n") if event]
    head, *frames = [chunked([])[:-5], *(b"%x\r\n%b\r\n" % (len(event), event) for event in events)]
    exchange = receive([head, *frames, b"0\r\n\r\n"])
    assert (exchange.meter.first_ns, exchange.meter.last_ns) == (2_000_000, 4_000_000)
    assert list(exchange.meter.gaps_us) == [1000, 1000]
    assert exchange.meter.usage_prompt == 9


def test_unchanged_shape_is_counted_without_parsing_but_a_broken_one_is_not_missed() -> None:
    good = b'data: {"choices":[{"index":0,"text":"%b","finish_reason":null}]}\n\n'
    broken = b'data: {"choices":[{"index":0,"text":"a" "b","finish_reason":null}]}\n\n'
    assert receive([chunked([good % b" a", good % b" b", good % b" c"])]).meter.events == 3
    assert receive([chunked([good % b" a", good % b" b", broken, b"data: [DONE]\n\n"])]).error == "protocol"


@given(st.integers(1, len(chunked([VLLM_COMPLETION])) - 1))
def test_stream_cut_anywhere_is_an_error_never_a_result(length: int) -> None:
    exchange = receive([chunked([VLLM_COMPLETION])[:length]], closed=True)
    assert exchange.done
    assert exchange.error in ("truncated", "reset")


@given(st.binary(max_size=400), PLACES)
def test_fuzzed_answers_end_with_an_error(data: bytes, places: list[int]) -> None:
    exchange = receive(cut(data, places), closed=True)
    assert exchange.done
    assert exchange.error is not None


@pytest.mark.parametrize("name", CORPUS)
def test_mutated_real_streams_never_raise(name: str) -> None:
    chance = random.Random(3)
    for _ in range(200):
        data = bytearray(chunked(cut(CORPUS[name].body, [chance.randrange(2000) for _ in range(8)])))
        for _ in range(chance.randint(1, 5)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        assert receive([bytes(data)], closed=True).done


@pytest.mark.parametrize("name", CORPUS)
def test_stream_that_loses_its_end_is_an_error(name: str) -> None:
    """Whatever event it loses first: no usage, end mark or finish reason stands in for the others."""
    body = CORPUS[name].body
    end = b"\r\n\r\n" if b"\r\n\r\n" in body else b"\n\n"
    events = [event + end for event in body.split(end) if event]
    kept = next(number for number, event in enumerate(events) if _ends(event))
    exchange = receive([chunked(events[:kept])])
    assert exchange.error == "truncated"


@pytest.mark.parametrize(
    "rubbish",
    [
        b"[" * 200_000,
        b'{"choices":[' + b'{"delta":' * 100_000,
        b'{"choices":[],"usage":{"completion_tokens":' + b"9" * 4000 + b"}}",
        b'{"choices":[],"usage":{"completion_tokens":true,"prompt_tokens":-1}}',
        b'{"choices":{"0":1}}',
        b'{"choices":[null]}',
        b'{"choices":[{"delta":"x"}],"usage":[1]}',
        b"\xff\xfe",
        b"1" * 5000,
    ],
)
def test_rubbish_among_tokens_is_never_a_count(rubbish: bytes) -> None:
    token = b'data: {"choices":[{"index":0,"text":" a","finish_reason":null}]}\n\n'
    exchange = receive([chunked([token, token, b"data: " + rubbish + b"\n\n", token, b"data: [DONE]\n\n"])])
    assert exchange.done
    assert exchange.error in (None, "protocol")
    assert (exchange.meter.output_tokens, exchange.meter.usage_prompt) == (3, None)


@pytest.mark.parametrize("name", CORPUS)
@pytest.mark.parametrize("after", [b'data: {"choices":[{"index":0,"text":" a"}]}', b'data: {"error":"x"}', b"data: {"])
def test_what_follows_the_end_mark_means_nothing(name: str, after: bytes) -> None:
    body = CORPUS[name].body
    sep = b"\r\n\r\n" if b"\r\n\r\n" in body else b"\n\n"
    end = b"" if b"[DONE]" in body else b"data: [DONE]" + sep
    first = next(event for event in body.split(sep) if b"data:" in event)
    plain, more = receive([chunked([body + end])]), receive([chunked([body + end, first + sep, after + sep])])
    assert more.error is None
    assert (more.meter.events, more.meter.output_tokens) == (plain.meter.events, plain.meter.output_tokens)
    assert more.meter.last_ns == plain.meter.last_ns


def test_line_break_within_a_text_is_no_token() -> None:
    """Two data lines are one with a line break between them: not JSON, though it looks like the chunk before."""
    token = b'data: {"choices":[{"index":0,"text":"%b","finish_reason":null}]}\n\n'
    assert receive([chunked([token % b"a", token % b"b\ndata: c", b"data: [DONE]\n\n"])]).error == "protocol"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\r\nno", "http_429"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "http_503"),
        (b"HTTP/1.1 307 Elsewhere\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "redirect"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhuh?", "protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n{}", "protocol"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 64 + b"\r\n{}", "protocol"),
        (chunked([b"data: [DONE", b"x]\n\n"]), "protocol"),
        (chunked([b'data: {"error":{"message":"out of cache"}}\n\n', b"data: [DONE]\n\n"]), "stream_error"),
        (chunked([b"event: error\ndata: {}\n\n"]), "stream_error"),
        (chunked([b'data: {"choices":[{"text":"a","finish_reason":null}]}\n\n']), "truncated"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "protocol"),
    ],
)
def test_failures_have_a_class(answer: bytes, error: str) -> None:
    assert receive([answer]).error == error


def test_plain_answer_counts_by_usage() -> None:
    body = b'{"data":[],"usage":{"prompt_tokens":7,"total_tokens":7}}'
    exchange = receive([b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)])
    assert exchange.error is None
    assert exchange.meter.usage_prompt == 7


def test_cancelled_request_is_neither_error_nor_reusable() -> None:
    exchange = receive([chunked([VLLM_COMPLETION])[:-5]], cancel_after=1)
    assert (exchange.cancelled, exchange.error, exchange.reusable) == (True, None, False)


def test_interim_response_is_followed_by_the_real_one() -> None:
    exchange = receive([b"HTTP/1.1 100 Continue\r\n\r\n" + chunked([VLLM_COMPLETION])])
    assert (exchange.status, exchange.error) == (200, None)


def test_first_token_read_with_later_ones_may_have_come_earlier() -> None:
    exchange = Exchange(0, 0, 0)
    exchange.feed(chunked([VLLM_COMPLETION]), 9_000_000, looked_ns=2_000_000)
    assert exchange.blur_ns == 7_000_000


def test_chunk_size_cut_within_its_line_end_waits_for_the_rest() -> None:
    """Without its LF the second size is no line yet, also where a line end stands that far from the start."""
    first, second = b"a" * 31, b"b" * 34
    parser = ResponseParser()
    parser.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert parser.feed(b"%x\r\n%b\r\n%x\r" % (len(first), first, len(second))) == [first]
    assert parser.feed(b"\n%b\r\n" % second) == [second]


@pytest.mark.parametrize("size", [b"-5", b"+5", b"1_0", b"0x5", b"g", b""])
def test_chunk_size_must_be_plain_hexadecimal(size: bytes) -> None:
    parser = ResponseParser()
    with pytest.raises(ProtocolError, match="hexadecimal"):
        parser.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\n")
