"""Pages of other origins, paths that a generating vLLM does not have, and flags of the server."""

from __future__ import annotations

import pytest

from controlplane.emulator.boot import StartRefused
from controlplane.emulator.flags import parse_command_line
from tests.unit.emulator.served import served

_PAGE = {"Origin": "https://page.example"}
_PREFLIGHT = {**_PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


async def test_any_page_may_ask_by_default_without_a_key_for_the_question() -> None:
    async with served("--api-key=k") as client:
        asked = await client.options("/v1/chat/completions", headers=_PREFLIGHT)
        assert (asked.status, asked.headers["Access-Control-Allow-Origin"]) == (200, "*")
        assert asked.headers["Access-Control-Allow-Headers"] == "authorization"
        assert "POST" in asked.headers["Access-Control-Allow-Methods"]
        shown = await client.get("/v1/models", headers={**_PAGE, "Authorization": "Bearer k"})
        assert shown.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Origin" not in (await client.get("/health")).headers


async def test_a_stream_may_be_read_by_a_page_too() -> None:
    async with served() as client:
        body = {"prompt": "a", "max_tokens": 1, "stream": True}
        answer = await client.post("/v1/completions", json=body, headers=_PAGE)
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(
    ("flag", "status", "said"),
    [
        ('--allowed-origins=["https://page.example"]', 200, "OK"),
        ('--allowed-origins=["https://other.example"]', 400, "Disallowed CORS origin"),
        ('--allowed-methods=["GET"]', 400, "Disallowed CORS method"),
        ('--allowed-headers=["x-mine"]', 400, "Disallowed CORS headers"),
    ],
)
async def test_a_page_that_is_not_allowed_is_told(flag: str, status: int, said: str) -> None:
    async with served(flag) as client:
        asked = await client.options("/v1/completions", headers=_PREFLIGHT)
        assert (asked.status, await asked.text()) == (status, said)


@pytest.mark.parametrize("word", ["https://page.example", '"https://page.example"', "[1]"])
def test_origins_are_a_list_in_json(word: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse_command_line(["m", f"--allowed-origins={word}"], visible_devices=None)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/responses", "/pooling", "/v1/load_lora_adapter", "/sleep"])
async def test_what_this_engine_does_not_have_is_not_found_as_fastapi_says_it(path: str) -> None:
    async with served() as client:
        answer = await client.post(path, json={})
        assert (answer.status, await answer.json()) == (404, {"detail": "Not Found"})


async def test_a_wrong_method_is_named() -> None:
    async with served() as client:
        answer = await client.get("/v1/completions")
        assert (answer.status, await answer.json()) == (405, {"detail": "Method Not Allowed"})


async def test_an_engine_for_embeddings_is_not_emulated() -> None:
    with pytest.raises(StartRefused, match="does not support `--runner pooling`"):
        async with served("--runner=pooling"):
            raise AssertionError("it started")


async def test_tokens_come_with_their_texts_when_asked_for() -> None:
    async with served() as client:
        body = {"prompt": "hello you", "return_token_strs": True}
        shown = await (await client.post("/tokenize", json=body)).json()
        assert len(shown["token_strs"]) == shown["count"] == len(shown["tokens"])
