"""Real clients, unchanged: OpenAI's and Anthropic's SDKs through the gateway."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest
from pydantic import BaseModel

from tests.integration.gateway.harness import MODEL, Gateway, gateway, revision
from tests.integration.gateway.upstream import DONE, Script, Upstream, pieces, status, token_event, upstream

if TYPE_CHECKING:  # at run time where it is used: for every other test process it would be a second of CPU
    import anthropic

QUESTION: Any = [{"role": "user", "content": "hi"}]
TOOL: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def answer(body: dict[str, Any]) -> Script:
    return pieces(json.dumps(body).encode(), content_type="application/json")


def completion(message: dict[str, Any], finish: str = "stop") -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice], "usage": usage}


def events(*data: dict[str, Any], done: bool = True, named: bool = False) -> Script:
    parts = [
        (f"event: {each['type']}\n" if named else "").encode() + b"data: " + json.dumps(each).encode() + b"\n\n"
        for each in data
    ]
    return pieces(*parts, *([b"data: [DONE]\n\n"] if done else []))


@asynccontextmanager
async def serving(tmp_path: Path, script: Script) -> AsyncIterator[tuple[Gateway, Upstream]]:
    async with gateway(tmp_path) as gw, upstream("e1", script) as engine:
        await gw.route(revision("rev-a", 100, engine), keys={"team": "s3cret"})
        yield gw, engine


def of_openai(gw: Gateway, key: str = "s3cret") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{gw.url}/v1", api_key=key, max_retries=0)


def of_anthropic(gw: Gateway) -> anthropic.AsyncAnthropic:
    import anthropic

    return anthropic.AsyncAnthropic(base_url=gw.url, api_key="s3cret", max_retries=0)


async def test_tools_of_openai_pass_both_ways(tmp_path: Path) -> None:
    call = {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Köln"}'}}
    async with serving(tmp_path, answer(completion({"content": None, "tool_calls": [call]}, "tool_calls"))) as (gw, e):
        async with of_openai(gw) as client:
            found = await client.chat.completions.create(
                model=MODEL, messages=QUESTION, tools=[TOOL], tool_choice="required", user="ana"
            )
        (record,) = await gw.records()
    assert found.choices[0].message.tool_calls is not None
    assert found.choices[0].message.tool_calls[0].model_dump()["function"] == call["function"]
    sent = json.loads(e.bodies[0])
    assert (sent["tools"], sent["tool_choice"]) == ([TOOL], "required")
    assert (record.key, record.prompt_tokens, record.output_tokens) == ("team", 3, 2)


async def test_streamed_tool_calls_of_openai_arrive_in_their_pieces(tmp_path: Path) -> None:
    def delta(**fields: Any) -> dict[str, Any]:
        choice = {"index": 0, "delta": fields, "finish_reason": None}
        return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice]}

    parts = ['{"ci', 'ty":"Kö', 'ln"}']
    chunks = [delta(tool_calls=[{"index": 0, "function": {"arguments": part}}]) for part in parts]
    async with serving(tmp_path, events(*chunks)) as (gw, _), of_openai(gw) as client:
        stream = await client.chat.completions.create(model=MODEL, messages=QUESTION, tools=[TOOL], stream=True)
        got = [
            call.function.arguments
            async for chunk in stream
            for call in chunk.choices[0].delta.tool_calls or []
            if call.function is not None
        ]
    assert got == parts


class City(BaseModel):
    """What an answer is to look like."""

    name: str
    people: int


async def test_structured_output_of_openai_is_asked_for_and_parsed(tmp_path: Path) -> None:
    script = answer(completion({"content": '{"name": "Köln", "people": 1087000}'}))
    async with serving(tmp_path, script) as (gw, engine), of_openai(gw) as client:
        found = await client.chat.completions.parse(model=MODEL, messages=QUESTION, response_format=City)
    assert found.choices[0].message.parsed == City(name="Köln", people=1_087_000)
    wanted = json.loads(engine.bodies[0])["response_format"]
    assert (wanted["type"], set(wanted["json_schema"]["schema"]["properties"])) == ("json_schema", {"name", "people"})


async def test_the_synchronous_client_streams_too(tmp_path: Path) -> None:
    def ask(url: str) -> str:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="s3cret", max_retries=0) as client:
            stream = client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
            return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    async with serving(tmp_path, pieces(token_event("a"), token_event("b"), b"data: [DONE]\n\n")) as (gw, _):
        assert await asyncio.to_thread(ask, gw.url) == "ab"


async def test_responses_of_openai_stream_and_are_counted(tmp_path: Path) -> None:
    base = {"id": "r", "object": "response", "created_at": 1, "model": MODEL, "output": [], "status": "completed"}
    rest = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    usage = {"input_tokens": 4, "output_tokens": 2, "total_tokens": 6}
    delta = {
        "type": "response.output_text.delta",
        "item_id": "i",
        "output_index": 0,
        "content_index": 0,
        "logprobs": [],
    }
    script = events(
        {**delta, "delta": "a", "sequence_number": 1},
        {**delta, "delta": "b", "sequence_number": 2},
        {"type": "response.completed", "response": {**base, **rest, "usage": usage}, "sequence_number": 3},
        done=False,
        named=True,
    )
    async with serving(tmp_path, script) as (gw, engine):
        async with of_openai(gw) as client:
            stream = await client.responses.create(model=MODEL, input="hi", stream=True)
            text = [event.delta async for event in stream if event.type == "response.output_text.delta"]
        (record,) = await gw.records()
    assert text == ["a", "b"]
    assert engine.seen[0].path == "/v1/responses"
    assert (record.error, record.prompt_tokens, record.output_tokens) == (None, 4, 2)
    assert record.ttft_ms is not None


async def test_messages_of_anthropic_stream_and_are_counted(tmp_path: Path) -> None:
    message = {"id": "m", "type": "message", "role": "assistant", "model": MODEL, "content": []}
    script = events(
        {"type": "message_start", "message": {**message, "usage": {"input_tokens": 5, "output_tokens": 0}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "b"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
        done=False,
        named=True,
    )
    async with serving(tmp_path, script) as (gw, engine):
        async with (
            of_anthropic(gw) as client,
            client.messages.stream(model=MODEL, max_tokens=9, messages=QUESTION) as stream,
        ):
            text = await stream.get_final_text()
        (record,) = await gw.records()
    assert text == "ab"
    assert "x-api-key" not in {name.lower() for name in engine.seen[0].headers}
    assert (record.error, record.prompt_tokens, record.output_tokens, record.path) == (None, 5, 2, "/v1/messages")


async def test_messages_of_anthropic_with_tools_come_in_one_piece(tmp_path: Path) -> None:
    block = {"type": "tool_use", "id": "t", "name": "weather", "input": {"city": "Köln"}}
    body = {"id": "m", "type": "message", "role": "assistant", "model": MODEL, "content": [block]}
    script = answer({**body, "stop_reason": "tool_use", "usage": {"input_tokens": 5, "output_tokens": 2}})
    tool: Any = {"name": "weather", "input_schema": {"type": "object"}}
    async with serving(tmp_path, script) as (gw, engine):
        async with of_anthropic(gw) as client:
            found = await client.messages.create(model=MODEL, max_tokens=9, messages=QUESTION, tools=[tool])
        (record,) = await gw.records()
    assert found.content[0].model_dump(exclude_none=True)["input"] == {"city": "Köln"}
    assert json.loads(engine.bodies[0])["tools"] == [tool]
    assert (record.prompt_tokens, record.output_tokens) == (5, 2)


async def test_a_stream_that_breaks_off_is_an_error_for_both_sdks(tmp_path: Path) -> None:
    import anthropic

    start = {"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "model": MODEL}}
    start["message"] |= {"content": [], "usage": {"input_tokens": 5, "output_tokens": 0}}  # type: ignore[operator]
    async with serving(tmp_path, events(start, done=False, named=True)) as (gw, engine):
        with pytest.raises(anthropic.APIError):
            async with (
                of_anthropic(gw) as client,
                client.messages.stream(model=MODEL, max_tokens=9, messages=QUESTION) as stream,
            ):
                await stream.get_final_text()
        engine.script = pieces(token_event("a"))
        async with of_openai(gw) as other:
            chunks = await other.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
            with pytest.raises(openai.APIError, match="broke off"):
                async for _ in chunks:
                    pass


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (lambda c: c.models.retrieve("nothing"), openai.NotFoundError),
        (lambda c: c.chat.completions.create(model="nothing", messages=QUESTION), openai.NotFoundError),
        (lambda c: c.files.list(), openai.NotFoundError),
        (lambda c: c.with_options(api_key="wrong").models.list(), openai.AuthenticationError),
        (lambda c: c.post("/chat/completions", cast_to=object, body={"x": 1}), openai.BadRequestError),
    ],
)
async def test_refusals_are_the_sdks_own_errors(
    tmp_path: Path, act: Callable[[openai.AsyncOpenAI], Any], error: type[openai.APIStatusError]
) -> None:
    async with serving(tmp_path, status(200)) as (gw, _), of_openai(gw) as client:
        with pytest.raises(error) as refused:
            await act(client)
    assert refused.value.type == "invalid_request_error"


async def test_models_say_how_long_a_prompt_may_be_and_adapters_are_models(tmp_path: Path) -> None:
    cards = [
        {"id": MODEL, "object": "model", "created": 7, "max_model_len": 4096, "parent": None},
        {"id": "sql-lora", "object": "model", "created": 8, "parent": MODEL},
    ]

    async with serving(tmp_path, answer(completion({"content": "x"}))) as (gw, engine):
        engine.cards = cards
        async with of_openai(gw) as client:
            listed = {model.id: model.model_dump() async for model in client.models.list()}
            one = await client.models.retrieve("sql-lora")
            await client.chat.completions.create(model="sql-lora", messages=QUESTION)
        (record,) = await gw.records()
    assert {name: card.get("max_model_len") for name, card in listed.items()} == {MODEL: 4096, "sql-lora": None}
    assert one.model_dump()["parent"] == MODEL
    assert (record.model, record.service, record.revision) == ("sql-lora", "chat", "rev-a")


async def test_an_adapter_is_found_without_anybody_listing_models(tmp_path: Path) -> None:
    async with serving(tmp_path, answer(completion({"content": "x"}))) as (gw, engine):
        engine.cards = [{"id": MODEL}, {"id": "sql-lora", "parent": MODEL}]
        async with of_openai(gw) as client:
            await client.chat.completions.create(model="sql-lora", messages=QUESTION)
    assert json.loads(engine.bodies[0])["model"] == "sql-lora"


async def test_a_recording_is_passed_on_as_a_form(tmp_path: Path) -> None:
    async with serving(tmp_path, answer({"text": "hello"})) as (gw, engine), of_openai(gw) as client:
        found = await client.audio.transcriptions.create(model=MODEL, file=("a.wav", b"RIFF" + b"\0" * 200_000))
    assert found.text == "hello"
    assert b"RIFF" in engine.bodies[0]
    assert engine.seen[0].headers["Content-Type"].startswith("multipart/form-data; boundary=")


@pytest.fixture(autouse=True)
def _without_the_users_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "OPENAI_BASE_URL",
        "OPENAI_API_KEY",
        "ANTHROPIC_BASE_URL",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("stream", [False, True])
async def test_curl_as_in_everybodys_first_example(tmp_path: Path, stream: bool) -> None:
    program = shutil.which("curl")
    if program is None:
        pytest.skip("no curl on this machine")
    script = pieces(token_event("Hi"), DONE) if stream else answer(completion({"content": "Hi"}))
    async with serving(tmp_path, script) as (gw, engine):
        body = json.dumps({"model": MODEL, "messages": QUESTION, "stream": stream})
        headers = ("-H", "Content-Type: application/json", "-H", "Authorization: Bearer s3cret")
        command = (program, "-sS", "--fail", "--max-time", "60", f"{gw.url}/v1/chat/completions", *headers, "-d", body)
        curl = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        said, _ = await curl.communicate()
    assert curl.returncode == 0
    assert said.endswith(DONE) if stream else json.loads(said)["choices"][0]["message"]["content"] == "Hi"
    assert engine.bodies == [body.encode()]
