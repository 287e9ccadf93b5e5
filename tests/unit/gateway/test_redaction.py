"""Answers of every protocol, redacted on their way: alike however the engine cuts them, and untouched without need."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.domain.door.personal import Recogniser
from controlplane.gateway.privacy.redaction import Finders, Redaction
from controlplane.gateway.sse import StreamWatch
from tests.unit.domain.labelled_personal import WITH, WITHOUT

DONE = b"data: [DONE]\n\n"
SAYS = "Write to alice@example.com or call +49 171 1234567, card 4111 1111 1111 1111. Bye"
REDACTED = "Write to [EMAIL] or call [PHONE], card [CARD]. Bye"
CALL = json.dumps({"to": "alice@example.com", "card": 4111111111111111, "note": 'say "hi"\n'})


def event(data: Any, name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def chat(**delta: Any) -> bytes:
    return event(
        {"id": "c1", "choices": [{"index": 0, "delta": delta, "logprobs": {"content": [delta.get("content")]}}]}
    )


def finish(index: int = 0) -> bytes:
    return event({"choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]})


def words(text: str, size: int = 4) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


async def passed(chunks: Iterable[bytes], redaction: Redaction | None = None) -> bytes:
    """Send an engine's bytes as the relay does: whole events only."""
    watch, redaction, out = StreamWatch(), redaction or Redaction(Recogniser()), b""
    for chunk in chunks:
        whole = watch.feed(chunk, 0.0)
        out += await redaction.feed(whole) if whole else b""
    last = watch.finish(0.0)
    return out + (await redaction.feed(last) if last else b"") + await redaction.finish()


def events_of(stream: bytes) -> list[Any]:
    lines = [line for line in stream.split(b"\n") if line.startswith(b"data: ") and b"[DONE]" not in line]
    return [json.loads(line[6:]) for line in lines]


def said(stream: bytes, key: str = "content", index: int = 0) -> str:
    choices = [each for one in events_of(stream) for each in one["choices"] if each["index"] == index]
    return "".join(each["delta"].get(key) or "" for each in choices)


STREAM = chat(role="assistant", content="") + b"".join(chat(content=word) for word in words(SAYS, 9)) + finish() + DONE


async def test_a_stream_cut_at_every_byte_says_the_same() -> None:
    whole = await passed([STREAM])
    assert said(whole) == REDACTED
    assert whole.endswith(DONE)
    for cut in range(len(STREAM)):
        assert await passed([STREAM[:cut], STREAM[cut:]]) == whole
    assert await passed(STREAM[at : at + 1] for at in range(len(STREAM))) == whole


async def test_what_says_the_text_by_tokens_goes_with_it() -> None:
    whole = await passed([STREAM])
    for leak in (b"alice", b"example.com", b"1234567", b"1111", b"1 11"):
        assert leak not in whole
    assert len(events_of(whole)) == len(events_of(STREAM))  # no event is lost


@pytest.mark.parametrize("line", [b"\n", b"\r\n"])
async def test_what_has_nothing_in_it_is_the_same_bytes(line: bytes) -> None:
    for text in WITHOUT:
        stream = b"".join(chat(content=word) for word in words(text, 3)) + b": ping\n\n" + finish() + DONE
        stream = stream.replace(b"\n", line)
        redaction = Redaction(Recogniser())
        assert await passed([stream[:50], stream[50:]], redaction) == stream
        assert not redaction.found


async def test_all_that_is_labelled_is_found_in_streams_of_any_token_size() -> None:
    for labelled in WITH:
        for size in (1, 3, 100):
            stream = b"".join(chat(content=word) for word in words(labelled.text, size)) + finish() + DONE
            out = await passed([stream])
            assert not any(secret in said(out) for _, secret in labelled.wanted)
            assert said(out).count("[") == labelled.text.count("[") + len(labelled.wanted)


async def test_arguments_of_tool_calls_stay_json() -> None:
    for size in (1, 2, 5, 1000):
        pieces = words(CALL, size)
        first = [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "send", "arguments": ""}}]
        stream = chat(role="assistant", content=None, tool_calls=first)
        for piece in pieces:
            stream += chat(tool_calls=[{"index": 0, "function": {"arguments": piece}}])
        out = await passed([stream + finish() + DONE])
        calls = [each["choices"][0]["delta"].get("tool_calls") for each in events_of(out)]
        written = "".join(call[0]["function"]["arguments"] for call in calls if call)
        assert json.loads(written) == {"to": "[EMAIL]", "card": "[CARD]", "note": 'say "hi"\n'}


async def test_several_answers_in_one_stream_are_told_apart() -> None:
    def part(index: int, text: str) -> bytes:
        return event({"choices": [{"index": index, "delta": {"content": text}}]})

    stream = (
        part(0, "alice@exa") + part(1, "bob@exa") + part(0, "mple.com") + finish(0) + part(1, "mple.com") + finish(1)
    )
    out = await passed([stream + DONE])
    assert (said(out, index=0), said(out, index=1)) == ("[EMAIL]", "[EMAIL]")


async def test_reasoning_and_plain_completions_are_looked_at_too() -> None:
    out = await passed([chat(reasoning_content="ask alice@ex") + chat(reasoning_content="ample.com") + finish() + DONE])
    assert said(out, "reasoning_content") == "ask [EMAIL]"
    texts = [event({"choices": [{"index": 0, "text": word}]}) for word in words(SAYS)]
    out = await passed([*texts, DONE])
    assert "".join(each["choices"][0]["text"] for each in events_of(out)) == REDACTED


async def test_anthropics_events() -> None:
    stream = event({"type": "message_start", "message": {"content": [], "role": "assistant"}}, "message_start")
    stream += event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    for word in words(SAYS):
        delta = {"type": "text_delta", "text": word}
        stream += event({"type": "content_block_delta", "index": 0, "delta": delta}, "content_block_delta")
    stream += event({"type": "content_block_stop", "index": 0}, "content_block_stop")
    for word in words(CALL):
        delta = {"type": "input_json_delta", "partial_json": word}
        stream += event({"type": "content_block_delta", "index": 1, "delta": delta}, "content_block_delta")
    stream += event({"type": "content_block_stop", "index": 1}, "content_block_stop")
    stream += event({"type": "message_stop"}, "message_stop")
    out = await passed([stream])
    deltas = [each["delta"] for each in events_of(out) if each["type"] == "content_block_delta"]
    assert "".join(delta.get("text", "") for delta in deltas) == REDACTED
    assert json.loads("".join(delta.get("partial_json", "") for delta in deltas))["to"] == "[EMAIL]"
    assert out.count(b"event: content_block_delta") == stream.count(b"event: content_block_delta")


async def test_the_responses_protocol_says_its_texts_twice() -> None:
    where = {"item_id": "m1", "output_index": 0, "content_index": 0}
    stream = b"".join(event({"type": "response.output_text.delta", "delta": word, **where}) for word in words(SAYS))
    stream += event({"type": "response.output_text.done", "text": SAYS, **where})
    output = [{"type": "message", "id": "m1", "content": [{"type": "output_text", "text": SAYS}]}]
    stream += event({"type": "response.completed", "response": {"id": "r1", "output": output}})
    out = events_of(await passed([stream]))
    assert "".join(each["delta"] for each in out if "delta" in each) == REDACTED
    assert out[-2]["text"] == out[-1]["response"]["output"][0]["content"][0]["text"] == REDACTED


async def test_an_answer_in_one_piece() -> None:
    message = {"role": "assistant", "content": SAYS, "tool_calls": [{"id": "x", "function": {"arguments": CALL}}]}
    choice = {"index": 0, "message": message, "logprobs": {"content": [{"token": "alice"}]}}
    body = json.dumps({"id": "alice@example.com", "choices": [choice], "usage": {"prompt_tokens": 7}}).encode()
    got = json.loads(await Redaction(Recogniser()).whole(body))
    assert got["choices"][0]["message"]["content"] == REDACTED
    assert json.loads(got["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"])["card"] == "[CARD]"
    assert (got["choices"][0]["logprobs"], got["usage"]) == (None, {"prompt_tokens": 7})
    tool = json.dumps({"content": [{"type": "tool_use", "input": {"card": 4111111111111111, "n": 3}}]}).encode()
    assert json.loads(await Redaction(Recogniser()).whole(tool))["content"][0]["input"] == {"card": "[CARD]", "n": 3}


@pytest.mark.parametrize(
    "body",
    [b"", b"not json", b"[1, 2]", b'{"choices": [ {"message": {"content": "hello"} } ] }', b"\xff\xfe", b"[" * 5000],
)
async def test_a_body_with_nothing_in_it_is_the_same_bytes(body: bytes) -> None:
    assert await Redaction(Recogniser()).whole(body) is body
    assert await passed([b"data: " + body.replace(b"\n", b"") + b"\n\n"]) == b"data: " + body + b"\n\n"


async def test_a_transcription_is_text_or_json_and_a_large_body_is_read_too() -> None:
    assert await Redaction(Recogniser()).whole(b"call alice@example.com") == b"call [EMAIL]"
    assert (
        json.loads(await Redaction(Recogniser()).whole(b'{"text": "call alice@example.com"}'))["text"] == "call [EMAIL]"
    )
    long = json.dumps({"text": "word " * 20_000 + "alice@example.com"}).encode()
    assert (await Redaction(Recogniser()).whole(long)).endswith(b'[EMAIL]"}')


class Names:
    """A finder that needs sentences, as Presidio does."""

    def find(self, text: str) -> list[Any]:
        from controlplane.domain.door.personal import Span

        at = text.find("Alice Smith")
        return [Span(at, at + 11, "person")] if at >= 0 else []

    def held_from(self, text: str) -> int:
        return text.rfind(". ") + 2 if ". " in text else 0


async def test_several_finders_hold_back_as_far_as_any_needs() -> None:
    finder = Finders((Recogniser(), Names()))
    text = "I met Alice Smith. Her mail is alice@example.com today"
    out = await passed([chat(content=word) for word in words(text)] + [finish(), DONE], Redaction(finder))
    assert said(out) == "I met [PERSON]. Her mail is [EMAIL] today"


PARTS = ("choices", "delta", "index", "content", "text", "tool_calls", "function", "arguments", "type", "item_id")
KEYS = st.sampled_from((*PARTS, "finish_reason", "logprobs"))
KINDS = st.sampled_from(
    ["content_block_delta", "response.output_text.delta", "message_stop", "x.done", "a@example.com"]
)
PLAIN = st.none() | st.booleans() | st.integers(-2, 2) | KINDS
ANYTHING = st.recursive(
    PLAIN, lambda each: st.lists(each, max_size=3) | st.dictionaries(KEYS, each, max_size=4), max_leaves=12
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.dictionaries(KEYS, ANYTHING, max_size=4), max_size=4))
def test_whatever_an_engine_writes_comes_out_as_whole_events(written: list[Any]) -> None:
    out = asyncio.run(passed([event(each) for each in written]))
    assert len(events_of(out)) == len(written)
    whole = asyncio.run(Redaction(Recogniser()).whole(json.dumps({"choices": written}).encode()))
    assert isinstance(json.loads(whole), dict)


async def test_a_secret_said_in_half_a_character_or_beside_one_does_not_stop_the_stream() -> None:
    stream = event({"choices": [{"index": 0, "delta": {"content": "\ud800 alice@example.com \ud800"}}]})
    assert b"alice" not in await passed([stream + finish() + DONE])
