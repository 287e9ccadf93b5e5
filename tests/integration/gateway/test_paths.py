"""Which paths are passed on, what is said of the others, and which pages may ask from a browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aiohttp import web

from tests.integration.gateway.harness import MODEL, gateway, revision
from tests.integration.gateway.test_clients import answer, serving
from tests.integration.gateway.upstream import DONE, status, upstream


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(
    "path", ["/v1/rerank", "/v1/score", "/score", "/pooling", "/tokenize", "/v1/messages/count_tokens"]
)
async def test_every_path_of_vllm_that_asks_a_model_passes(tmp_path: Path, path: str, slash: str) -> None:
    async with serving(tmp_path, answer({"ok": True})) as (gw, engine):
        key = {"Authorization": "Bearer s3cret"}
        assert (await gw.post({"model": MODEL, "input": "x"}, path=path + slash, **key))[:2] == (200, b'{"ok": true}')
        code, _, _ = await gw.post({"prompt": "x"}, path=path, **key)
    assert code == (200 if path in ("/pooling", "/tokenize") else 400)  # vLLM asks for no model there
    assert {request.path for request in engine.seen} == {path}


@pytest.mark.parametrize(
    ("method", "path", "status_", "code"),
    [
        ("GET", "/v1/nothing?secret=PLANTED", 404, "unknown_url"),
        ("POST", "/v1/load_lora_adapter", 404, "unknown_url"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
    ],
)
async def test_what_is_not_served_is_openais_error(
    tmp_path: Path, method: str, path: str, status_: int, code: str
) -> None:
    async with serving(tmp_path, status(200)) as (gw, engine), gw.session.request(method, gw.url + path) as response:
        text = await response.text()
        assert (response.status, json.loads(text)["error"]["code"]) == (status_, code)
    assert "PLANTED" not in text
    assert engine.seen == []


async def test_pages_of_named_origins_only_may_ask_from_a_browser(tmp_path: Path) -> None:
    async with gateway(tmp_path, cors_origins=("https://chat.example",)) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        url = f"{gw.url}/v1/chat/completions"
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        for origin, allowed in (("https://chat.example", "https://chat.example"), ("https://evil.example", None)):
            async with gw.session.options(url, headers={"Origin": origin, **asked}) as response:
                assert response.status == 204
                assert response.headers.get("Access-Control-Allow-Origin") == allowed
                assert response.headers["Access-Control-Allow-Headers"] == "authorization"
            _, _, headers = await gw.post({"model": MODEL, "stream": True}, Origin=origin)
            assert headers.get("Access-Control-Allow-Origin") == allowed


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
async def test_what_an_engine_says_of_pages_and_cookies_reaches_no_browser(tmp_path: Path, kind: str) -> None:
    async def permissive(request: web.Request) -> web.StreamResponse:
        said = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "true", "Set-Cookie": "a=b"}
        body = b'data: {"x": 1}\n\n' + DONE if kind == "text/event-stream" else b"{}"
        return web.Response(body=body, headers={**said, "Content-Type": kind, "X-Else": "kept"})

    async with gateway(tmp_path, cors_origins=("https://chat.example",)) as gw, upstream("e1", permissive) as engine:
        await gw.route(revision("rev-a", 100, engine), keys={"app": "s3cret"})
        asked = {"Origin": "https://evil.example", "Authorization": "Bearer s3cret"}
        code, _, headers = await gw.post({"model": MODEL, "stream": True}, **asked)
    assert (code, headers["X-Else"]) == (200, "kept")
    assert not [name for name in headers if name.lower().startswith(("access-control-", "set-cookie"))]
    assert "Origin" not in engine.seen[0].headers


async def test_without_origins_nothing_is_said_about_them(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, gw.session.options(f"{gw.url}/v1/models") as response:
        assert response.status == 405
        assert "Access-Control-Allow-Methods" not in response.headers
