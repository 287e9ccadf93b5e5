"""Lines of a batch: what is a request, and what is said of one that is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controlplane.domain.door.batch import (
    Batch,
    BatchStatus,
    Line,
    LineError,
    failure_line,
    read_line,
    result_line,
)

CHAT = "/v1/chat/completions"


def a_line(**changes: Any) -> bytes:
    return json.dumps({"custom_id": "a", "method": "POST", "url": CHAT, "body": {"model": "m"}} | changes).encode()


def test_a_line_is_a_request() -> None:
    assert read_line(a_line(), 1, CHAT) == Line("a", {"model": "m"})


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"{", "not valid JSON"),
        (b"[" * 10_000, "not valid JSON"),
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
    line = Line("a\n", {"model": "m"})
    done = result_line("batch-1", 3, line, 200, "req", {"choices": ["two\nlines"]})
    assert b"\n" not in done
    assert json.loads(done) == {
        "id": "batch-1-3",
        "custom_id": "a\n",
        "response": {"status_code": 200, "request_id": "req", "body": {"choices": ["two\nlines"]}},
        "error": None,
    }
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
