"""Long prompts of token ids are read in pieces, and what is known of them is what reading them whole says."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.gateway.body import _skimmed, _skimmed_whole
from controlplane.gateway.fingerprint import Fingerprints
from controlplane.gateway.long_ids import LEAST_BYTES, shortened
from controlplane.gateway.openai_errors import RequestRefused

PRINTS = Fingerprints(b"salt" * 8)
MANY = LEAST_BYTES // 2


def a_body(ids: object, **more: object) -> bytes:
    return json.dumps({"model": "m", "prompt": ids, "max_tokens": 3, **more}).encode()


@pytest.mark.parametrize("name", ["prompt", "input"])
@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":"), (" ,\n", " : ")])
def test_the_same_is_known_of_it_as_when_it_is_read_whole(name: str, separators: tuple[str, str]) -> None:
    ids = [number % 50_000 for number in range(MANY)]
    body = json.dumps({"model": "m", name: ids, "user": "u"}, separators=separators).encode()
    assert shortened(body, 1000) is not None
    assert _skimmed(body, PRINTS) == _skimmed_whole(body, PRINTS)
    assert _skimmed(body, PRINTS).prompt.tokens == MANY


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda: a_body([1] * 100), id="short"),
        pytest.param(lambda: a_body([[1] * MANY]), id="several prompts"),
        pytest.param(lambda: a_body([1, "]"] * MANY), id="texts among them"),
        pytest.param(lambda: a_body([1, [2]] * MANY), id="lists among them"),
        pytest.param(lambda: a_body("[1" + ",1" * MANY + "]"), id="a text that looks like one"),
        pytest.param(lambda: a_body([7] * 5, prompt2=[1] * MANY), id="another field"),
        pytest.param(lambda: a_body([7] * 5, more={"prompt": [1] * MANY}), id="another one's"),
        pytest.param(lambda: b'{"prompt": [1' + b",1" * MANY + b'], "prompt": [2], "model": "m"}', id="given twice"),
    ],
)
def test_what_is_not_surely_one_long_list_is_read_whole(made: Callable[[], bytes]) -> None:
    body = made()
    assert _skimmed(body, PRINTS) == _skimmed_whole(body, PRINTS)


@pytest.mark.parametrize("wrong", [b",", b"1,", b",,1", b"1 2", b",01", b"1,]", b"x", b'"', b"1,[", b"{", b"\xff"])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_what_is_no_json_is_refused(wrong: bytes, place: str) -> None:
    half = b"1," * (MANY // 2)
    lists = {"first": b"1" + wrong + b"," + half + half + b"1", "middle": half + b"1" + wrong + b"," + half + b"1"}
    lists["last"] = half + half + b"1" + wrong + b","
    body = b'{"model": "m", "prompt": [%b]}' % lists[place]
    with pytest.raises(RequestRefused, match="not valid JSON"):
        _skimmed(body, PRINTS)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=60),
    st.integers(8, 40),
    st.integers(8, 60),
    st.sampled_from([",", ", ", " ,", ",\n"]),
)
def test_pieces_of_any_length_find_every_id(ids: list[int], piece: int, most: int, comma: str) -> None:
    body = json.dumps({"prompt": ids, "model": "m"}, separators=(comma, ":")).encode()
    short = shortened(body, most, least=0, piece=piece)
    if short is not None:
        left = json.loads(short.body)["prompt"]
        assert short.ids == len(ids)
        assert left == ids[: len(left)] == json.loads(short.kept)
        assert json.loads(short.body)["model"] == "m"
