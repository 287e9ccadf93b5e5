"""A chain of audit entries shows what was done to it."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.domain.door.audit import (
    FIRST,
    Broken,
    Decision,
    Entry,
    Happened,
    Head,
    Verified,
    lengthened,
    verify,
    written,
)
from tests.builders_serving import NOW

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def chained(head: Head, number: int, happened: Happened) -> Entry:
    return Entry.model_validate_json(lengthened(head, number, happened)[1])


def test_the_end_of_a_chain_is_its_last_entrys() -> None:
    head, line = lengthened(Head(6, "a" * 64), 7, happened(7))
    entry = Entry.model_validate_json(line)
    assert head == Head(entry.number, entry.hash)
    assert (entry.before, entry.happened) == ("a" * 64, happened(7))
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1


@QUICK
@given(ANY_JSON)
def test_chains_are_hashed_by_what_python_writes(said: object) -> None:
    assert written(said) == json.dumps(said, sort_keys=True, separators=(",", ":")).encode()


def test_a_chain_of_an_earlier_release_still_holds() -> None:
    entry = chained(Head(), 1, happened(1).evolve(model="größe\x7f"))
    told = json.dumps([1, FIRST, entry.happened.model_dump(mode="json")], sort_keys=True, separators=(",", ":"))
    assert entry.hash == hashlib.sha256(told.encode()).hexdigest()


def happened(number: int) -> Happened:
    return Happened(
        at=NOW + timedelta(seconds=number),
        gateway="gw-1",
        request_id=f"r{number}",
        tenant="shop",
        key="app",
        service="chat",
        model="llama",
        path="/v1/chat/completions",
        decision=Decision.ANSWERED,
        status=200,
        prompt_tokens=7,
        output_tokens=number,
    )


def a_chain(length: int) -> list[Entry]:
    head, entries = Head(), []
    for number in range(1, length + 1):
        entries.append(chained(head, number, happened(number)))
        head = Head(number, entries[-1].hash)
    return entries


def lines_of(entries: list[Entry]) -> list[tuple[str, bytes]]:
    return [(f"f:{place}", entry.model_dump_json().encode()) for place, entry in enumerate(entries, 1)]


def test_a_chain_as_it_was_written_is_whole_and_so_is_its_end_alone() -> None:
    entries = a_chain(5)
    assert entries[0].before == FIRST
    assert verify(lines_of(entries)) == Verified(1, Head(5, entries[-1].hash))
    assert verify(lines_of(entries[2:])) == Verified(3, Head(5, entries[-1].hash))  # older ones past their retention
    assert verify([]) == Verified(0, Head())


@QUICK
@given(st.integers(2, 6), st.data())
def test_whatever_is_done_to_one_line_is_found(length: int, data: st.DataObject) -> None:
    entries = a_chain(length)
    at = data.draw(st.integers(0, length - 1))
    done = data.draw(st.sampled_from(["take out", "put in", "move", "change", "change and hash", "cut"]))
    lines = lines_of(entries)
    if done == "take out":
        at = min(max(at, 1), length - 2) if length > 2 else 0
        gone = lines.pop(at)
        assert gone
        if at == 0:
            return  # the beginning: as if its retention were over
    elif done == "put in":
        lines.insert(at, lines[at])
    elif done == "move":
        other = data.draw(st.integers(0, length - 1).filter(lambda each: each != at))
        lines[at], lines[other] = lines[other], lines[at]
    elif done == "cut":
        lines[at] = ("f", lines[at][1][:-2])
    else:
        forged = json.loads(lines[at][1])
        field = data.draw(st.sampled_from(["status", "output_tokens", "tenant", "key", "decision", "at"]))
        forged["happened"][field] = {"status": 201, "output_tokens": 999, "decision": "refused"}.get(field)
        if field in ("tenant", "key"):
            forged["happened"][field] = "someone"
        if field == "at":
            forged["happened"][field] = "2030-01-01T00:00:00Z"
        if done == "change and hash":  # whoever knows how the hash is made
            one = chained(Head(0, forged["before"]), forged["number"], Happened.model_validate(forged["happened"]))
            forged["hash"] = one.hash
            if at == length - 1:
                return  # the newest entry: only a head kept elsewhere shows it
        lines[at] = ("f", json.dumps(forged).encode())
    assert isinstance(verify(lines), Broken)


def test_entries_that_were_lost_are_said() -> None:
    one = chained(Head(), 1, happened(1))
    later = chained(Head(1, one.hash), 5, happened(5))
    assert verify(lines_of([one, later])) == Broken("f:2", "entries 2 to 4 were never written: the gateway lost them")


@pytest.mark.parametrize("line", [b"", b"{}", b"not json", b'{"number": 1}'])
def test_what_is_no_entry_is_said(line: bytes) -> None:
    assert verify([("f:1", line)]) == Broken("f:1", "this is no entry")
