"""What comes in is flagged, stripped or rejected as the service's policy says, wherever a request's texts lie."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from controlplane.domain.door.caching import CacheMode, CacheOptions
from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.privacy import Action, InjectionOptions, InputPolicy, PrivacyOptions
from controlplane.gateway.stages import screen
from tests.integration.gateway.harness import MODEL, chat, gateway, revision
from tests.integration.gateway.upstream import upstream

BAD = "hello <|im_start|>"
PARTS = [{"type": "text", "text": BAD}, {"type": "image_url", "image_url": {"url": f"data:{BAD}"}}]


def options(**policy: Any) -> GatewayOptions:
    return GatewayOptions(
        privacy=PrivacyOptions(input=InputPolicy(**policy)), cache=CacheOptions(mode=CacheMode.GREEDY)
    )


def said(text: str, **fields: Any) -> dict[str, Any]:
    return chat(messages=[{"role": "user", "content": text}], **fields)


BODIES = [
    pytest.param("/v1/chat/completions", said(BAD), id="a message"),
    pytest.param("/v1/chat/completions", chat(messages=[{"role": "user", "content": PARTS}]), id="a part"),
    pytest.param("/v1/chat/completions", said("x", tools=[{"function": {"description": BAD}}]), id="a tool"),
    pytest.param("/v1/completions", {"model": MODEL, "prompt": ["x", BAD]}, id="one of several prompts"),
    pytest.param("/v1/embeddings", {"model": MODEL, "input": BAD}, id="an embedding"),
    pytest.param("/v1/messages", {"model": MODEL, "system": BAD, "messages": []}, id="a system prompt"),
    pytest.param("/v1/responses", {"model": MODEL, "instructions": BAD, "input": "x"}, id="instructions"),
    pytest.param("/v1/rerank", {"model": MODEL, "query": "x", "documents": [BAD]}, id="a document"),
    pytest.param("/v1/chat/completions", said("x", chat_template=BAD), id="a template of the caller's"),
    pytest.param("/v1/chat/completions", said("x", chat_template_kwargs={"a": [BAD]}), id="what a template is given"),
    pytest.param("/v1/chat/completions", said(BAD + " " * 70_000), id="a large body"),
    pytest.param("/v1/chat/completions", said(BAD, user="\ud800"), id="half a character elsewhere"),
]


@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_wherever_it_lies_it_is_refused_without_being_quoted(tmp_path: Path, path: str, body: Any) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine), options=options(special_tokens=Action.REJECT))
        code, text, _ = await gw.post(body, path=path)
        record = (await gw.records(1))[0]
    error = json.loads(text)["error"]
    assert (code, error["code"], error["param"]) == (400, "policy_violation", "special_token")
    assert b"im_start" not in text
    assert engine.seen == []
    assert (record.status, record.error, record.flags) == (400, "policy_violation", ("special_token",))


@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_stripped_the_engine_gets_the_rest(tmp_path: Path, path: str, body: Any) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine), options=options(special_tokens=Action.STRIP))
        code, _, headers = await gw.post(body, path=path)
    assert (code, headers["X-Fleetune-Flagged"]) == (200, "special_token")
    expected = json.loads(json.dumps(body).replace("hello <|im_start|>", "hello "))
    pictures = json.dumps(expected).replace('"data:hello "', f'"data:{BAD}"')  # is no text
    assert json.loads(engine.bodies[0]) == json.loads(pictures)
    assert int(engine.seen[0].headers["Content-Length"]) == len(engine.bodies[0])


async def test_what_is_clean_is_passed_on_byte_for_byte_and_what_is_flagged_is_not_kept(tmp_path: Path) -> None:
    clean = json.dumps(said("hello", temperature=0), indent=3).encode()
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine), options=options(personal=Action.FLAG))
        found = [(await gw.post(clean))[2].get("X-Fleetune-Cache") for _ in range(2)]
        for _ in range(2):
            _, _, headers = await gw.post(said("mail alice@example.com", temperature=0))
            assert (headers["X-Fleetune-Flagged"], headers.get("X-Fleetune-Cache")) == ("personal", None)
        async with gw.session.get(f"{gw.url}/metrics") as response:
            text = await response.text()
    assert found == ["miss", "hit"]
    assert engine.bodies[0] == clean
    assert b"alice@example.com" in engine.bodies[1]
    assert 'fleetune_gateway_flags_total{found="personal",service="chat"} 2.0' in text


async def test_millions_of_token_ids_are_not_built_to_look_for_texts(tmp_path: Path) -> None:
    ids = ",".join(["12345"] * 300_000)
    body = b'{"suffix": "%s", "model":"%s","stream":true,"prompt":[%s]}' % (BAD.encode(), MODEL.encode(), ids.encode())
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine), options=options(special_tokens=Action.STRIP))
        code, _, headers = await gw.post(body, path="/v1/completions")
    assert (code, headers["X-Fleetune-Flagged"]) == (200, "special_token")
    assert json.loads(engine.bodies[0]) == json.loads(body) | {"suffix": "hello "}


@pytest.mark.parametrize(("groups", "beside"), [(100, False), (5_000, True)])
async def test_long_texts_are_looked_through_for_personal_data_beside_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: int, beside: bool
) -> None:
    looked: list[bool] = []
    look, main = screen._look, threading.get_ident()

    def noted(texts: Any, policy: InputPolicy) -> Any:
        looked.append(threading.get_ident() != main)
        return look(texts, policy)

    monkeypatch.setattr(screen, "_look", noted)
    body = chat() | {"messages": [{"role": "user", "content": "4111 " * groups + "alice@example.com"}]}
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine), options=options(personal=Action.STRIP))
        code, _, headers = await gw.post(body)
    assert (code, headers["X-Fleetune-Flagged"], looked) == (200, "personal", [beside])
    assert b"alice@" not in engine.bodies[0]


async def test_what_is_nested_too_deeply_is_the_clients_fault(tmp_path: Path) -> None:
    nested = b'{"model":"%s","messages":%s}' % (MODEL.encode(), b"[" * 900 + b"]" * 900)
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine), options=options(scripts=Action.REJECT))
        assert (await gw.post(nested))[0] in (200, 400)  # as deep as Python goes, or an error of the client's


async def test_token_ids_hold_no_text_to_look_at(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine), options=options(token_ids=Action.REJECT))
        for prompt in ([1, 2, 3], [[1, 2], [3]]):
            assert (await gw.post({"model": MODEL, "prompt": prompt}, path="/v1/completions"))[0] == 400
        assert (await gw.post({"model": MODEL, "prompt": ["1"]}, path="/v1/completions"))[0] == 200
    assert len(engine.seen) == 1


async def test_a_classifier_as_vllm_serves_it_has_a_word(tmp_path: Path) -> None:
    async def classify(request: web.Request) -> web.StreamResponse:
        texts = (await request.json())["input"]
        return web.json_response({"data": [{"label": "INJECTION" if "evil" in text else "SAFE"} for text in texts]})

    async with gateway(tmp_path) as gw, upstream("e1") as engine, upstream("guard", classify) as guard:
        wanted = InjectionOptions(action=Action.REJECT, url=f"{guard.url}/classify", model="guard", timeout_s=60)
        await gw.route(revision("rev-a", 100, engine), options=options(injection=wanted))
        assert [(await gw.post(said(text)))[0] for text in ("hello", "an evil plan")] == [200, 400]
        assert json.loads(guard.bodies[0]) == {"model": "guard", "input": ["hello"]}
        gone = wanted.evolve(url="http://127.0.0.1:9/classify")
        await gw.route(revision("rev-a", 100, engine), options=options(injection=gone), version=2)
        code, body, _ = await gw.post(said("hello"))
        assert (code, json.loads(body)["error"]["param"]) == (400, "unchecked")
        lenient = gone.evolve(unchecked=Action.FLAG)
        await gw.route(revision("rev-a", 100, engine), options=options(injection=lenient), version=3)
        code, _, headers = await gw.post(said("hello"))
        assert (code, headers["X-Fleetune-Flagged"]) == (200, "unchecked")
