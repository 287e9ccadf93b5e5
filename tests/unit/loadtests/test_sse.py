"""Server-sent events come out the same however the bytes were cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.measure.sse import SseParser
from tests.unit.loadtests.streams import CORPUS, cut

PLACES = st.lists(st.integers(0, 5000), max_size=40)


def parse(pieces: list[bytes]) -> list[tuple[bytes, bytes]]:
    parser = SseParser()
    return [event for piece in pieces for event in parser.feed(piece)]


@pytest.mark.parametrize("name", CORPUS)
@given(places=PLACES)
def test_any_cut_of_a_real_stream_gives_the_same_events(name: str, places: list[int]) -> None:
    body = CORPUS[name].body
    assert parse(cut(body, places)) == parse([body])


@given(
    st.lists(st.sampled_from([b"data: a", b"data:b", b": note", b"event: error", b"id: 1", b"data", b""]), max_size=20),
    PLACES,
)
def test_line_endings_mean_the_same(lines: list[bytes], places: list[int]) -> None:
    expected = parse([b"\n".join([*lines, b"", b""])])
    for ending in (b"\r\n", b"\r"):
        assert parse(cut(ending.join([*lines, b"", b""]), places)) == expected


@given(st.binary(max_size=300), PLACES)
def test_rubbish_never_raises_and_never_depends_on_the_cut(data: bytes, places: list[int]) -> None:
    assert parse(cut(data, places)) == parse([data])


def test_several_data_lines_are_one_event() -> None:
    assert parse([b"event: error\ndata: one\ndata: two\n\n"]) == [(b"error", b"one\ntwo")]


def test_byte_order_mark_and_comments_are_skipped() -> None:
    assert parse([b"\xef\xbb", b"\xbfdata: x\n\n: ping\n\ndata: y\n\n"]) == [(b"", b"x"), (b"", b"y")]


def test_event_without_its_empty_line_is_not_delivered() -> None:
    assert parse([b"data: half"]) == []
