"""What an emulator answers has the shape of vLLM 0.26's answers, field by field and in their order.

The expected objects follow vllm/entrypoints/openai/{chat_completion,completion,engine}/{serving,protocol}.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.emulators import MODEL, emulator


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with emulator() as running, httpx.Client(base_url=running.url, timeout=240, trust_env=False, verify=False) as made:
        yield made


CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}
COMPLETION = {"model": MODEL, "prompt": [1, 2, 3, 4], "max_tokens": 3}


def stream(client: httpx.Client, path: str, body: dict[str, Any]) -> list[Any]:
    """Return the events of a stream, parsed but for [DONE]."""
    answer = client.post(path, json={**body, "stream": True})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = answer.text.split("\n\n")
    assert events.pop() == ""
    assert events[-1] == "data: [DONE]"
    assert all(event.startswith("data: ") for event in events)
    return [json.loads(event.removeprefix("data: ")) for event in events[:-1]]


def test_a_chat_stream_is_a_role_then_words_then_the_reason_it_ends(client: httpx.Client) -> None:
    events = stream(client, "/v1/chat/completions", CHAT)
    assert len(events) == 4
    assert {event["id"] for event in events} == {events[0]["id"]}
    assert events[0]["id"].startswith("chatcmpl-")
    assert all(list(event) == ["id", "object", "created", "model", "choices"] for event in events)
    assert {(event["object"], event["model"]) for event in events} == {("chat.completion.chunk", MODEL)}
    opening, *words, last = [event["choices"][0] for event in events]
    role = {"role": "assistant", "content": ""}
    assert opening == {"index": 0, "delta": role, "logprobs": None, "finish_reason": None}
    for word in words:
        assert list(word) == ["index", "delta", "logprobs", "finish_reason", "token_ids"]
        assert (list(word["delta"]), word["finish_reason"]) == (["content"], None)
    assert list(last) == ["index", "delta", "logprobs", "finish_reason", "stop_reason", "token_ids"]
    assert (last["finish_reason"], last["stop_reason"]) == ("length", None)


def test_a_completion_stream_has_one_event_per_token(client: httpx.Client) -> None:
    events = stream(client, "/v1/completions", COMPLETION)
    choices = [event["choices"][0] for event in events]
    fields = ["index", "text", "logprobs", "finish_reason", "stop_reason", "prompt_token_ids", "token_ids"]
    assert [list(choice) for choice in choices] == [fields] * 3
    assert [choice["finish_reason"] for choice in choices] == [None, None, "length"]
    assert events[0]["id"].startswith("cmpl-")
    assert events[0]["object"] == "text_completion"


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", COMPLETION)])
def test_usage_comes_last_and_alone_when_asked_for(client: httpx.Client, path: str, body: dict[str, Any]) -> None:
    *rest, last = stream(client, path, {**body, "stream_options": {"include_usage": True}})
    assert last["choices"] == []
    assert list(last["usage"]) == ["prompt_tokens", "total_tokens", "completion_tokens"]
    assert last["usage"]["completion_tokens"] == 3
    assert all("usage" not in event for event in rest)


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", COMPLETION)])
def test_continuous_usage_counts_up_with_every_event(client: httpx.Client, path: str, body: dict[str, Any]) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    events = stream(client, path, {**body, "stream_options": options})
    counts = [event["usage"]["completion_tokens"] for event in events]
    assert counts == [*([0] if "chat" in path else []), 1, 2, 3, 3]


def test_streamed_and_whole_answers_say_the_same_amount(client: httpx.Client) -> None:
    whole = client.post("/v1/chat/completions", json=CHAT).json()
    assert list(whole)[:5] == ["id", "object", "created", "model", "choices"]
    assert (whole["object"], whole["choices"][0]["finish_reason"]) == ("chat.completion", "length")
    message = whole["choices"][0]["message"]
    assert (message["role"], len(message["content"])) == ("assistant", 12)
    assert whole["usage"]["completion_tokens"] == 3
    assert whole["usage"]["total_tokens"] == whole["usage"]["prompt_tokens"] + 3


@pytest.mark.parametrize(
    ("prompt", "tokens"), [([1, 2, 3], [3]), (" AAA BBB", [2]), ([[1, 2], [3]], [2, 1]), ([" AAA", " AAA BBB"], [1, 2])]
)
def test_prompts_may_be_text_or_token_ids_or_lists_of_either(
    client: httpx.Client, prompt: Any, tokens: list[int]
) -> None:
    answer = client.post("/v1/completions", json={**COMPLETION, "prompt": prompt}).json()
    assert [choice["index"] for choice in answer["choices"]] == list(range(len(tokens)))
    assert answer["usage"]["prompt_tokens"] == sum(tokens)
    assert answer["usage"]["completion_tokens"] == 3 * len(tokens)


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "said"),
    [
        ("/v1/completions", {**COMPLETION, "model": "other"}, 404, "NotFoundError", "`other` does not exist"),
        ("/v1/completions", {**COMPLETION, "prompt": [1] * 8190}, 400, "BadRequestError", "maximum context length"),
        ("/v1/completions", {**COMPLETION, "prompt": []}, 400, "BadRequestError", "cannot be empty"),
        ("/v1/completions", {**COMPLETION, "prompt": [10**6]}, 400, "BadRequestError", "out of vocabulary"),
        ("/v1/completions", {**COMPLETION, "max_tokens": 0}, 400, "BadRequestError", "max_tokens"),
        ("/v1/completions", {"model": MODEL}, 400, "BadRequestError", "prompt"),
        ("/v1/chat/completions", {**CHAT, "messages": []}, 400, "BadRequestError", "messages"),
        ("/v1/chat/completions", {**CHAT, "n": 0}, 400, "BadRequestError", "n must be at least 1"),
    ],
)
def test_a_refused_request_gets_an_openai_error(
    client: httpx.Client, path: str, body: dict[str, Any], status: int, kind: str, said: str
) -> None:
    answer = client.post(path, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (status, kind, status)
    assert said in error["message"]
    assert list(error) == ["message", "type", "param", "code"]


def test_a_body_that_is_no_json_is_a_bad_request(client: httpx.Client) -> None:
    assert client.post("/v1/completions", content=b"{").status_code == 400


def test_an_error_never_repeats_the_prompt(client: httpx.Client) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": {"secret": "words"}}]}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert "words" not in answer.text


def test_models_health_and_ping(client: httpx.Client) -> None:
    card = client.get("/v1/models").json()["data"][0]
    assert (card["id"], card["object"], card["root"], card["max_model_len"]) == (MODEL, "model", "llama-8b", 8192)
    assert client.get("/health").status_code == client.get("/ping").status_code == 200
    assert client.get("/health").content == b""


def test_the_version_says_that_it_is_emulated(client: httpx.Client) -> None:
    answer = client.get("/version")
    assert answer.json()["version"].startswith("0.26")
    assert answer.json()["emulated"] is True
    assert answer.headers["x-fleetune-time-lapse"] == "1"


def test_tokens_go_there_and_back(client: httpx.Client) -> None:
    ids = [5, 77, 128000]
    text = client.post("/detokenize", json={"model": MODEL, "tokens": ids}).json()["prompt"]
    again = client.post("/tokenize", json={"model": MODEL, "prompt": text}).json()
    assert (again["tokens"], again["count"], again["max_model_len"]) == (ids, 3, 8192)
    chat = client.post("/tokenize", json={"model": MODEL, "messages": CHAT["messages"]}).json()
    usage = client.post("/v1/chat/completions", json=CHAT).json()["usage"]
    assert usage["prompt_tokens"] == chat["count"]
