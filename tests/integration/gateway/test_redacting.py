"""Personal data in answers does not reach the client, nor the cache, and what has none is passed on byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import openai

from controlplane.domain.door.caching import CacheMode, CacheOptions
from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.personal import Personal
from controlplane.domain.door.privacy import OutputPolicy, PresidioOptions, PrivacyOptions
from tests.integration.gateway.harness import MODEL, chat, gateway, revision
from tests.integration.gateway.upstream import DONE, FINISH, cut_after, pieces, stream_bytes, token_event, upstream

OPTIONS = GatewayOptions(
    privacy=PrivacyOptions(output=OutputPolicy(redact=tuple(Personal))),
    cache=CacheOptions(mode=CacheMode.GREEDY),
)
SECRET = pieces(token_event("ask alice@exa"), token_event("mple.com"), token_event(" now"), FINISH, DONE)


async def test_a_clients_stream_is_redacted_and_so_is_what_the_cache_keeps(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1", SECRET) as engine:
        await gw.route(revision("rev-a", 100, engine), options=OPTIONS)
        async with openai.AsyncOpenAI(base_url=f"{gw.url}/v1", api_key="x") as client:
            for _ in range(2):
                stream = await client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": "hello"}], temperature=0, stream=True
                )
                said = [chunk.choices[0].delta.content or "" async for chunk in stream]
                assert "".join(said) == "ask [EMAIL] now"
        records = await gw.records(2)
    assert len(engine.seen) == 1
    assert sorted(record.redacted for record in records) == [False, True]  # a hit is what was sent


async def test_no_other_path_of_a_chat_goes_around_the_redaction(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1", SECRET) as engine:
        await gw.route(revision("rev-a", 100, engine), options=OPTIONS)
        _, body, _ = await gw.post(chat(), path="/invocations")
    assert b"alice" not in body
    assert b"[EMAIL]" in body


async def test_without_anything_to_redact_the_bytes_are_the_engines(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine), options=OPTIONS)
        assert (await gw.post(chat()))[1] == stream_bytes(3)
        whole = b'{ "choices": [ {"message": {"content": "hi"} } ] }'
        engine.script = pieces(whole, content_type="application/json")
        assert (await gw.post(chat(stream=False)))[1] == whole


async def test_what_is_held_back_of_a_stream_that_breaks_off_comes_redacted_before_the_error(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1", cut_after(token_event("ask alice@example.com"))) as engine:
        await gw.route(revision("rev-a", 100, engine), options=OPTIONS)
        _, body, _ = await gw.post(chat())
    assert b"alice" not in body
    first, error = (json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: "))
    assert first["choices"][0]["delta"]["content"] == "ask [EMAIL]"
    assert error["error"]["code"] == "truncated"


async def test_where_presidio_is_missing_nothing_goes_out_unlooked_at(tmp_path: Path) -> None:
    wanted = OutputPolicy(presidio=PresidioOptions(entities=("PERSON",), spacy_model="no_such_model"))
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine), options=GatewayOptions(privacy=PrivacyOptions(output=wanted)))
        code, body, _ = await gw.post(chat())
    assert (code, json.loads(body)["error"]["code"]) == (503, "redaction_unavailable")
    assert engine.seen == []
