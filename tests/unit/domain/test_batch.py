"""Lines of a batch: what is a request, and what is said of one that is none."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from controlplane.domain.door.batch import Batch, BatchStatus, LineError
from controlplane.domain.door.batch_lines import LONGEST_LINE_BYTES, Line, failure_line, read_line, result_line

CHAT = "/v1/chat/completions"


def a_line(**changes: Any) -> bytes:
    return json.dumps({"custom_id": "a", "method": "POST", "url": CHAT, "body": {"model": "m"}} | changes).encode()


def test_a_line_is_a_request() -> None:
    assert read_line(a_line(), 1, CHAT) == Line("a", b'{"model": "m"}')


def test_a_body_is_what_its_owner_wrote() -> None:
    body = b'{"model":  "m", "n": 1e0, "stream": false, "prompt": "\\u00e9\xc3\xa9", "n": 1.0}'
    raw = b'{"body": ' + body + b', "url": "' + CHAT.encode() + b'", "method": "POST", "custom_id": "\\u0061"}'
    assert read_line(raw, 1, CHAT) == Line("a", body)


@pytest.mark.parametrize("body", [b'{"x": "\\ud800"}', b'{"x": NaN}'])
def test_of_short_lines_all_is_taken_that_python_takes(body: bytes) -> None:
    raw = b'{"custom_id": "\\ud800", "method": "POST", "url": "/v1/chat/completions", "body": ' + body + b"}"
    assert read_line(raw, 1, CHAT) == Line("\ud800", body)
    assert json.loads(failure_line("batch-1", 1, Line("\ud800", body), "gone", "gone"))["custom_id"] == "\ud800"


def test_millions_of_token_ids_are_not_built() -> None:
    raw = b'{"custom_id":"a","method":"POST","url":"/v1/completions","body":{"prompt":[' + b"1,1,1,1," * 500_000
    raw += b"1]}}"
    tracemalloc.start()
    found = read_line(raw, 1, "/v1/completions")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(found, Line)
    assert most < 3 * len(raw)


def test_a_line_that_is_longer_than_any_request_is_refused() -> None:
    found = read_line(b" " * (LONGEST_LINE_BYTES + 1), 2, CHAT)
    assert isinstance(found, LineError)
    assert (found.line, found.code) == (2, "line_too_long")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"{", "no JSON object"),
        (b"[" * 10_000, "no JSON object"),
        (b"[]", "no JSON object"),
        (a_line(custom_id=""), "custom_id"),
        (a_line(custom_id=7), "custom_id"),
        (a_line(method="GET"), "POST"),
        (a_line(url="/v1/embeddings"), CHAT),
        (a_line(body=None), "body"),
        (a_line(body={"stream": True}), "stream"),
    ],
)
def test_a_line_that_is_none_says_why(raw: bytes, said: str) -> None:
    found = read_line(raw, 7, CHAT)
    assert isinstance(found, LineError)
    assert (found.line, said in found.message) == (7, True)


def test_what_is_written_of_a_line_is_one_line_of_openais() -> None:
    line = Line("a\n", b'{"model": "m"}')
    done = result_line("batch-1", 3, line, 200, "req", b'{"choices": ["two\\nlines"]}\n')
    assert b"\n" not in done
    assert json.loads(done) == {
        "id": "batch-1-3",
        "custom_id": "a\n",
        "response": {"status_code": 200, "request_id": "req", "body": {"choices": ["two\nlines"]}},
        "error": None,
    }
    assert json.loads(result_line("batch-1", 3, line, 502, "req", b"<html>"))["response"]["body"] is None
    failed = json.loads(failure_line("batch-1", 3, line, "invalid_api_key", "gone"))
    assert (failed["response"], failed["error"]) == (None, {"code": "invalid_api_key", "message": "gone"})


@pytest.mark.parametrize("status", BatchStatus)
def test_a_batch_is_shown_with_the_moment_it_ended(status: BatchStatus) -> None:
    batch = Batch(
        batch_id="batch-1",
        principal=None,
        endpoint=CHAT,
        input_file_id="file-1",
        created_at=10,
        status=status,
        ended_at=20,
    )
    shown = batch.shown(cancelling=True)
    assert shown["status"] == (status.value if batch.has_ended else "cancelling")
    moments = {name: shown[f"{name}_at"] for name in ("completed", "failed", "expired", "cancelled")}
    assert {name for name, at in moments.items() if at} == ({status.value} if batch.has_ended else set())
