"""What is noted without being looked at once more is written as the value itself would be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain.door.audit import Decision, Entry, Happened, Head, lengthened
from controlplane.domain.door.routing import CacheResult, GatewayRecord
from controlplane.domain.lean import in_json, lean

LeanRecord, LeanHappened = lean(GatewayRecord), lean(Happened)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
AT = st.datetimes(timezones=st.just(UTC))
COUNT = st.none() | st.integers(0, 10**30)
MS = st.none() | st.floats(0, 1e9).map(lambda ms: round(ms, 3))
RECORDS = st.fixed_dictionaries(
    {"id": TEXT, "at": AT, "gateway": TEXT, "service": TEXT, "model": TEXT, "revision": st.none() | TEXT}
    | {"engine_id": st.none() | TEXT, "path": TEXT, "stream": st.booleans(), "status": st.integers(100, 599)},
    optional={"error": st.none() | TEXT, "ahead": COUNT, "output_tokens": COUNT, "ttft_ms": MS, "e2e_ms": MS}
    | {"prefix_blocks": st.lists(st.integers(0, 2**48)).map(tuple), "flags": st.lists(TEXT).map(tuple)}
    | {"cache": st.none() | st.sampled_from(CacheResult), "redacted": st.booleans(), "other_model": st.none()},
)
ENTRIES = st.fixed_dictionaries(
    {"at": AT, "gateway": TEXT, "path": TEXT, "decision": st.sampled_from(Decision), "status": st.integers(100, 599)},
    optional={"model": st.none() | TEXT, "prompt_tokens": COUNT, "flags": st.lists(TEXT).map(tuple)},
)


@settings(max_examples=60, deadline=None)
@given(RECORDS)
def test_a_lean_record_is_written_byte_for_byte_as_a_record(fields: dict[str, Any]) -> None:
    assert in_json(LeanRecord(**fields)) == in_json(GatewayRecord(**fields))
    assert GatewayRecord.model_validate_json(in_json(LeanRecord(**fields))) == GatewayRecord(**fields)
    assert LeanRecord(**fields).ok is GatewayRecord(**fields).ok


@settings(max_examples=60, deadline=None)
@given(ENTRIES)
def test_a_chain_is_the_same_of_lean_entries(fields: dict[str, Any]) -> None:
    head, line = lengthened(Head(), 1, LeanHappened(**fields))
    assert (head, line) == lengthened(Head(), 1, Happened(**fields))
    assert Entry.model_validate_json(line).happened == Happened(**fields)


def test_a_lean_value_is_as_closed_and_as_frozen_as_the_value() -> None:
    fields: dict[str, Any] = {"at": datetime(2026, 3, 1, tzinfo=UTC), "gateway": "gw-1", "path": "/", "status": 200}
    with pytest.raises(TypeError, match="decision"):
        LeanHappened(**fields)
    made = LeanHappened(**fields, decision=Decision.LEFT)
    with pytest.raises(TypeError, match="text"):
        LeanHappened(**fields | {"decision": Decision.LEFT, "text": "a prompt"})
    with pytest.raises(AttributeError):
        made.status = 500  # type: ignore[misc]
    assert isinstance(made, msgspec.Struct)
