"""A question that sounds like an answered one gets that answer, unless something in it differs; a share is checked."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from controlplane.domain.door.caching import CacheMode, CacheOptions
from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.privacy import Action, InputPolicy, PrivacyOptions
from controlplane.domain.door.routing import CacheResult
from controlplane.domain.door.similar import EmbedderOptions, SemanticOptions
from tests.integration.gateway.harness import MODEL, Gateway, gateway, revision, table
from tests.integration.gateway.test_limits import key
from tests.integration.gateway.upstream import DONE, FINISH, Script, Upstream, pieces, status, token_event, upstream


async def embeddings(request: web.Request) -> web.StreamResponse:
    """Vectors by the words of a text that carry its sense: alike for texts that say the same, in any order."""
    texts = (await request.json())["input"]
    rows = [{"index": at, "embedding": vector(text)} for at, text in enumerate(texts)]
    return web.json_response({"data": rows[::-1]})


def vector(text: str) -> list[float]:
    words = {word.strip("?.,!").lower() for word in text.split()} - {"what", "is", "the", "please", "tell", "me", "of"}
    found = [0.0] * 97
    for word in words:
        found[sum(word.encode()) % 96] += 1.0
    return [*found[:-1], 0.01]


def options(embedder: Upstream, **semantic: Any) -> GatewayOptions:
    asked = EmbedderOptions(url=f"{embedder.url}/v1", model="embedder", timeout_s=60)
    given = SemanticOptions(embedder=asked, **{"check_share": 0.0} | semantic)
    return GatewayOptions(cache=CacheOptions(mode=CacheMode.GREEDY, semantic=given), max_retries=0)


async def ask(gw: Gateway, text: str, secret: str = "a", **fields: Any) -> str | None:
    messages = [*fields.pop("before", []), {"role": "user", "content": text}]
    body = {"model": MODEL, "stream": True, "temperature": 0, "messages": messages, **fields}
    code, _, headers = await gw.post(body, Authorization=f"Bearer {secret}")
    assert code == 200
    return headers.get("X-Fleetune-Cache")


async def test_a_question_that_sounds_alike_is_answered_once(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine, upstream("em", embeddings) as embedder:
        await gw.route(revision("rev-a", 100, engine), options=options(embedder))
        assert await ask(gw, "What is the capital of France?") == "miss"
        assert await ask(gw, "Please tell me the capital of France") == "similar"
        assert await ask(gw, "Please tell me the capital of Peru") == "miss"
        assert await ask(gw, "What is the capital of France?") == "hit"
        records = await gw.records(4)
    assert len(engine.seen) == 2
    similar = next(record for record in records if record.cache is CacheResult.SIMILAR)
    assert (similar.revision, similar.engine_id, similar.output_tokens) == (None, None, 3)


async def test_all_but_the_last_question_must_be_equal_and_of_the_same_tenant(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine, upstream("em", embeddings) as embedder:
        keys = (key("a", "shop"), key("b", "bank"))
        await gw.push(table(revision("rev-a", 100, engine), options=options(embedder)).evolve(api_keys=keys))
        assert await ask(gw, "What is the capital of France?") == "miss"
        question = "the capital of France"
        assert await ask(gw, question, secret="b") == "miss"
        assert await ask(gw, question, before=[{"role": "system", "content": "Be brief"}]) == "miss"
        assert await ask(gw, question, max_tokens=5) == "miss"
        assert await ask(gw, question, stream=False) == "miss"
        assert await ask(gw, question, temperature=1) is None
        assert await ask(gw, question, tools=[{"type": "function"}]) is None
        assert await ask(gw, question) == "similar"


async def test_near_misses_are_asked(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine, upstream("em", same) as embedder:
        await gw.route(revision("rev-a", 100, engine), options=options(embedder))
        questions = [
            "is 7 a prime",
            "is 9 a prime",
            "is 7 not a prime",
            "is Seven a prime",
            "ist 7 eine der Primzahlen",
        ]
        assert [await ask(gw, text) for text in questions] == ["miss"] * 5
        assert await ask(gw, "is 7 a prime?") == "similar"


async def same(request: web.Request) -> web.StreamResponse:
    """An embedder to which everything sounds alike."""
    texts = (await request.json())["input"]
    return web.json_response({"data": [{"index": at, "embedding": [1.0, 2.0]} for at, _ in enumerate(texts)]})


@pytest.mark.parametrize(
    ("said", "result"), [("Paris", CacheResult.CHECKED_SAME), ("no idea", CacheResult.CHECKED_DIFFERENT)]
)
async def test_a_hit_that_is_checked_says_whether_it_would_have_been_false(
    tmp_path: Path, said: str, result: CacheResult
) -> None:
    def saying(text: str) -> Script:
        return pieces(token_event(text), FINISH, DONE)

    async with gateway(tmp_path) as gw, upstream("e1", saying("Paris")) as engine, upstream("em", embeddings) as em:
        await gw.route(revision("rev-a", 100, engine), options=options(em, check_share=1.0))
        assert await ask(gw, "What is the capital of France?") == "miss"
        engine.script = saying(said)
        assert await ask(gw, "the capital of France") == "miss"  # an engine answered, and the client has its answer
        records = await gw.records(2)
        async with gw.session.get(f"{gw.url}/metrics") as response:
            text = await response.text()
    assert sorted(str(record.cache) for record in records) == sorted(["miss", result.value])
    assert all(record.revision == "rev-a" for record in records)
    assert f'fleetune_gateway_cache_total{{result="{result.value}",service="chat"}} 1.0' in text


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(status(500), id="broken"),
        pytest.param(pieces(b"no json", content_type="application/json"), id="no JSON"),
        pytest.param(pieces(b'{"data": []}', content_type="application/json"), id="too few"),
        pytest.param(pieces(b'{"data": [{"embedding": [0, 0]}]}', content_type="application/json"), id="zeros"),
        pytest.param(pieces(b'{"data": [{"embedding": ["x"]}]}', content_type="application/json"), id="no numbers"),
        pytest.param(pieces(b'{"data": [{"embedding": [NaN]}]}', content_type="application/json"), id="not a number"),
    ],
)
async def test_without_embeddings_engines_answer_and_equal_questions_are_still_found(
    tmp_path: Path, script: Script
) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine, upstream("em", script) as embedder:
        await gw.route(revision("rev-a", 100, engine), options=options(embedder))
        assert [await ask(gw, text) for text in ("a question", "a question", "another one")] == ["miss", "hit", "miss"]


async def test_what_is_sensitive_is_not_even_embedded(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine, upstream("em", embeddings) as embedder:
        private = PrivacyOptions(input=InputPolicy(personal=Action.FLAG))
        await gw.route(revision("rev-a", 100, engine), options=options(embedder).evolve(privacy=private))
        assert await ask(gw, "who is alice@example.com") is None
        assert embedder.seen == []


def test_the_tests_own_vectors_are_what_they_say() -> None:
    one, other = vector("What is the capital of France?"), vector("please tell me the capital of France")
    assert math.isclose(sum(a * b for a, b in zip(one, other, strict=True)), sum(a * a for a in one))
    assert json.dumps(one) != json.dumps(vector("the capital of Peru"))
