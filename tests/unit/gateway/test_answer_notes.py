"""Why an answer stopped, and whether its tool calls hold, without any of its text."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from controlplane.gateway.answer_notes import LARGEST_ARGUMENTS, MOST_CALLS, AnswerNotes, notes_of, tool_names
from controlplane.gateway.sse import StreamWatch

TOOLS = frozenset({"weather"})


def called(*calls: Any) -> AnswerNotes:
    return notes_of({"choices": [{"index": 0, "message": {"tool_calls": list(calls)}, "finish_reason": "tool_calls"}]})


def a_call(name: str, arguments: str) -> dict[str, Any]:
    return {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}


def test_calls_of_a_given_tool_with_an_object_of_arguments_hold() -> None:
    notes = called(a_call("weather", '{"city": "Oslo"}'), a_call("weather", "{}"))
    assert (notes.stop, notes.tool_calls, notes.bad_tool_calls(TOOLS)) == ("tool_calls", 2, 0)


@pytest.mark.parametrize(
    "call",
    [
        a_call("time", "{}"),
        a_call("weather", '{"city": '),
        a_call("weather", "[1]"),
        a_call("weather", ""),
        a_call("weather", '{"x": "' + "a" * LARGEST_ARGUMENTS + '"}'),
        {"function": {"name": None, "arguments": 3}},
    ],
)
def test_any_other_call_is_bad(call: dict[str, Any]) -> None:
    assert called(call).bad_tool_calls(TOOLS) == 1


def test_a_call_that_comes_in_pieces_is_one_call() -> None:
    watch = StreamWatch()
    for part in (
        b'{"index":0,"function":{"name":"weather","arguments":""}}',
        b'{"index":0,"function":{"arguments":"{\\"city\\":"}}',
        b'{"index":1,"function":{"name":"time","arguments":"{}"}}',
        b'{"index":0,"function":{"arguments":" \\"Oslo\\"}"}}',
    ):
        watch.feed(b'data: {"choices":[{"index":0,"delta":{"tool_calls":[' + part + b"]}}]}\n\n", 0.0)
    watch.feed(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\n\n', 1.0)
    assert (watch.notes.tool_calls, watch.notes.bad_tool_calls(TOOLS), watch.notes.stop) == (2, 1, "tool_calls")


@pytest.mark.parametrize(
    ("answer", "stop", "declined"),
    [
        ({"choices": [{"finish_reason": "stop", "text": "x"}]}, "stop", False),
        ({"choices": [{"finish_reason": "content_filter"}]}, "content_filter", True),
        ({"choices": [{"finish_reason": "stop", "message": {"refusal": "no"}}]}, "stop", True),
        ({"choices": [{"finish_reason": "who knows"}]}, "other", False),
        ({"stop_reason": "max_tokens", "type": "message"}, "length", False),
        ({"stop_reason": "refusal"}, "content_filter", True),
        ({"object": "response", "status": "completed"}, "stop", False),
        ({"object": "response", "incomplete_details": {"reason": "max_output_tokens"}}, "length", False),
        ({"object": "list", "status": "completed"}, None, False),
        ({"choices": "none", "stop_reason": 7}, None, False),
    ],
)
def test_every_protocol_says_why_an_answer_stopped(answer: dict[str, Any], stop: str | None, declined: bool) -> None:
    notes = notes_of(answer)
    assert (notes.stop, notes.declined) == (stop, declined)


@pytest.mark.parametrize(
    ("event", "stop"),
    [
        (b'{"type":"message_delta","delta":{"stop_reason":"tool_use"}}', "tool_calls"),
        (b'{"type":"response.completed","response":{"status":"completed"}}', "stop"),
        (
            b'{"type":"response.incomplete","response":{"incomplete_details":{"reason":"content_filter"}}}',
            "content_filter",
        ),
    ],
)
def test_streams_of_the_other_protocols_too(event: bytes, stop: str) -> None:
    watch = StreamWatch()
    watch.feed(b"data: " + event + b"\n\n", 0.0)
    assert watch.notes.stop == stop


def test_names_of_tools_are_read_whatever_else_stands_there() -> None:
    given = {"tools": [{"type": "function", "function": {"name": "weather"}}, {"function": 3}, "x", {"function": {}}]}
    assert tool_names(given) == TOOLS
    assert tool_names({"tools": "weather"}) == frozenset()


def test_what_is_held_of_tool_calls_is_bounded_however_many_come_in_however_small_pieces() -> None:
    notes = AnswerNotes()
    tracemalloc.start()
    for number in range(100_000):
        function = {"name": "weather" * (number < 2 * MOST_CALLS), "arguments": "[" * 20}
        notes.choice(
            {"index": 0, "delta": {"tool_calls": [{"index": number % (2 * MOST_CALLS), "function": function}]}}
        )
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2 * LARGEST_ARGUMENTS
    assert notes.tool_calls == notes.bad_tool_calls(TOOLS) == MOST_CALLS


def test_a_call_beyond_the_bound_takes_the_others_nothing() -> None:
    half = '{"x": "' + "a" * (LARGEST_ARGUMENTS // 2) + '"}'
    notes = called(a_call("weather", half), a_call("weather", half + half), a_call("weather", '{"city": "\u00c5s"}'))
    assert (notes.tool_calls, notes.bad_tool_calls(TOOLS)) == (3, 1)


def test_an_engine_that_names_ever_other_counts_is_asked_for_two() -> None:
    watch = StreamWatch()
    for number in range(1000):
        usage = b'{"prompt_tokens":7,"completion_tokens":%d,"other_%d":1}' % (number, number)
        watch.feed(b'data: {"choices":[],"usage":' + usage + b"}\n\n", 0.0)
    assert watch.usage == {"prompt_tokens": 7, "completion_tokens": 999}
