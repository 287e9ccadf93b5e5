"""Parsing quickly says what Python's own parser says, whatever comes."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.gateway.parsing import parsed

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(_VALUES, st.booleans(), st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]))
def test_what_is_written_is_read_in_any_encoding(value: Any, ascii_only: bool, encoding: str) -> None:
    assert parsed(json.dumps(value, ensure_ascii=ascii_only).encode(encoding)) == value


_NEARLY = st.text(alphabet='{}[]",:0123456789.eE+-\\u ntrfals\ud83d', max_size=40)


@given(st.binary(max_size=40) | _NEARLY.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_what_one_refuses_the_other_refuses(text: bytes) -> None:
    try:
        expected = json.loads(text)
    except (ValueError, RecursionError):
        with pytest.raises((ValueError, RecursionError)):
            parsed(text)
    else:
        assert repr(parsed(text)) == repr(expected)


def test_what_only_python_knows_is_read_too() -> None:
    assert parsed(b'"\\ud83d"') == "\ud83d"
    assert math.isnan(parsed(b"NaN"))
    assert parsed(b"1e999") == math.inf
