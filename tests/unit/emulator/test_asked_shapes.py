"""Several answers, logprobs, tools, structured output: in vLLM's shapes, or refused in its words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.emulator.boot import StartRefused
from controlplane.emulator.errors import ApiError
from controlplane.emulator.speech import Script
from controlplane.emulator.structured import example
from tests.unit.emulator.served import Client, served

_TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "properties": {"city": {"enum": ["Bern", "Rome"]}, "days": {"type": "integer", "minimum": 2}},
            "required": ["city", "days"],
        },
    },
}
_CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 40}
_AUTO = ("--enable-auto-tool-choice", "--tool-call-parser=hermes")


async def ask(client: Client, **body: Any) -> Any:
    return await (await client.post("/v1/chat/completions", json={**_CHAT, **body})).json()


async def events(client: Client, path: str, body: dict[str, Any]) -> list[Any]:
    text = await (await client.post(path, json={**body, "stream": True})).text()
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


async def test_several_answers_share_one_prompt() -> None:
    async with served() as client:
        body = {"prompt": [[1, 2, 3], [4, 5]], "max_tokens": 4, "n": 3}
        whole = await (await client.post("/v1/completions", json=body)).json()
        assert [choice["index"] for choice in whole["choices"]] == list(range(6))
        assert len({choice["text"] for choice in whole["choices"]}) == 6
        assert (whole["usage"]["prompt_tokens"], whole["usage"]["completion_tokens"]) == (5, 24)
        last = [e["choices"][0] for e in await events(client, "/v1/chat/completions", {**_CHAT, "n": 2})]
        assert sorted(choice["index"] for choice in last if choice["finish_reason"]) == [0, 1]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"n": 0}, "n must be at least 1, got 0."),
        ({"top_logprobs": 3}, "when using `top_logprobs`, `logprobs` must be set to true."),
        ({"logprobs": True, "top_logprobs": 21}, "Requested sample logprobs of 21, which is greater than max allowed"),
        ({"stream_options": {"include_usage": True}}, "Stream options can only be defined when `stream=True`."),
        ({"tools": []}, "`tools` must not be an empty array."),
        ({"tool_choice": "required"}, "When using `tool_choice`, `tools` must be set."),
        ({"tools": [_TOOL]}, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
        (
            {"tools": [_TOOL], "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "does not match any of the specified `tools`",
        ),
        ({"response_format": {"type": "json_schema"}}, "the 'json_schema' field must be provided"),
        ({"structured_outputs": {"choice": ["a"], "json": {}}}, "You can only use one kind of constraints"),
        ({"structured_outputs": {"regex": "a+"}}, "structured outputs by regex are not emulated"),
        ({"use_beam_search": True}, "beam search is not emulated"),
    ],
)
async def test_what_vllm_refuses_is_refused(body: dict[str, Any], said: str) -> None:
    async with served() as client:
        answer = await client.post("/v1/chat/completions", json={**_CHAT, **body})
        error = (await answer.json())["error"]
        assert (answer.status, error["type"], error["code"]) == (400, "BadRequestError", 400)
        assert said in error["message"]


async def test_logprobs_of_a_chat_come_with_every_token() -> None:
    asked = {"logprobs": True, "top_logprobs": 2, "max_tokens": 5}
    async with served() as client:
        choice = (await ask(client, **asked))["choices"][0]
        content = choice["logprobs"]["content"]
        assert "".join(one["token"] for one in content) == choice["message"]["content"]
        for one in content:
            assert bytes(one["bytes"]).decode() == one["token"]
            assert one["logprob"] == max(top["logprob"] for top in one["top_logprobs"]) < 0
            assert len(one["top_logprobs"]) == 2
        streamed = [e["choices"][0] for e in await events(client, "/v1/chat/completions", {**_CHAT, **asked})][1:]
        assert [len(choice["logprobs"]["content"]) for choice in streamed] == [1] * 5


async def test_logprobs_of_a_completion_say_where_each_token_stands() -> None:
    body = {"prompt": "a", "max_tokens": 4, "logprobs": 1}
    async with served() as client:
        choice = (await (await client.post("/v1/completions", json=body)).json())["choices"][0]
        told = choice["logprobs"]
        columns = (told["text_offset"], told["tokens"], told["token_logprobs"], told["top_logprobs"])
        for offset, token, logprob, top in zip(*columns, strict=True):
            assert choice["text"][offset : offset + len(token)] == token
            assert top == {token: logprob}
        streamed = [e["choices"][0]["logprobs"] for e in await events(client, "/v1/completions", body)]
        texts = [one["tokens"][0] for one in streamed]
        assert [one["text_offset"][0] for one in streamed] == [len("".join(texts[:i])) for i in range(4)]


async def test_a_client_s_loop_of_call_result_and_answer_comes_round() -> None:
    async with served(*_AUTO) as client:
        choice = (await ask(client, tools=[_TOOL]))["choices"][0]
        (call,) = choice["message"]["tool_calls"]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
        assert (call["type"], call["function"]["name"]) == ("function", "weather")
        assert json.loads(call["function"]["arguments"]) == {"city": "Bern", "days": 2}
        asked = [{"role": "user", "content": "hello"}]
        told = [*asked, choice["message"], {"role": "tool", "tool_call_id": call["id"], "content": "rain"}]
        final = (await ask(client, tools=[_TOOL], messages=told))["choices"][0]
        assert (final["message"]["tool_calls"], final["finish_reason"]) == ([], "length")


async def test_a_streamed_call_says_its_name_first_and_its_arguments_in_pieces() -> None:
    async with served() as client:
        body = {**_CHAT, "tools": [_TOOL], "tool_choice": "required"}
        role, named, *pieces = [e["choices"][0] for e in await events(client, "/v1/chat/completions", body)]
        assert role["delta"] == {"role": "assistant", "content": ""}
        (call,) = named["delta"]["tool_calls"]
        assert (call["index"], call["function"]) == (0, {"name": "weather", "arguments": ""})
        arguments = "".join(piece["delta"]["tool_calls"][0]["function"]["arguments"] for piece in pieces)
        assert json.loads(arguments) == {"city": "Bern", "days": 2}
        assert [piece["finish_reason"] for piece in pieces][-1] == "tool_calls"


async def test_a_named_tool_is_called_and_ends_like_text() -> None:
    async with served() as client:
        named = {"type": "function", "function": {"name": "weather"}}
        choice = (await ask(client, tools=[_TOOL], tool_choice=named))["choices"][0]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("stop", "")
        cut = (await ask(client, tools=[_TOOL], tool_choice=named, max_tokens=2))["choices"][0]
        assert cut["finish_reason"] == "length"


async def test_automatic_tools_need_a_parser() -> None:
    with pytest.raises(StartRefused, match="--enable-auto-tool-choice requires --tool-call-parser"):
        async with served("--enable-auto-tool-choice"):
            raise AssertionError("it started")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_follows_its_schema(stream: bool) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}, "tags": {"type": "array"}}}
    wanted = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}
    async with served() as client:
        if stream:
            choices = [e["choices"][0] for e in await events(client, "/v1/chat/completions", {**_CHAT, **wanted})]
            text, end = "".join(c["delta"].get("content", "") for c in choices), choices[-1]["finish_reason"]
        else:
            choice = (await ask(client, **wanted))["choices"][0]
            text, end = choice["message"]["content"], choice["finish_reason"]
        assert (json.loads(text), end) == ({"name": "text", "tags": ["text"]}, "stop")


async def test_json_mode_and_choices() -> None:
    async with served() as client:
        free = await ask(client, response_format={"type": "json_object"})
        assert isinstance(json.loads(free["choices"][0]["message"]["content"]), dict)
        one = await ask(client, structured_outputs={"choice": ["yes", "no"]})
        assert one["choices"][0]["message"]["content"] == "yes"


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": ["null", "string"]}, None),
        ({"$defs": {"a": {"const": 3}}, "properties": {"x": {"$ref": "#/$defs/a"}}}, {"x": 3}),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, True),
        ({"type": "array", "items": {"type": "number", "maximum": 0.5}, "minItems": 2}, [0.5, 0.5]),
        ({"type": "string", "minLength": 6}, "texttt"),
        ({"type": "string", "maxLength": 2}, "te"),
    ],
)
def test_a_value_of_a_schema_is_small_and_allowed(schema: dict[str, Any], value: object) -> None:
    assert example(schema) == value


def test_a_schema_that_never_ends_is_refused() -> None:
    with pytest.raises(ApiError, match="only ends in itself"):
        example({"$ref": "#"})


@given(st.text(max_size=100))
def test_a_script_says_its_text(text: str) -> None:
    script = Script(text)
    assert script.text(0, len(script)) == text
