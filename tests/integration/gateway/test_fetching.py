"""A client cannot send an engine for pictures to where only the engine gets: whatever the body's size or spelling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.door.gateway_options import GatewayOptions
from tests.integration.gateway.harness import MODEL, chat, gateway, revision
from tests.integration.gateway.upstream import upstream

INSIDE = "http://169.254.169.254/latest/meta-data/"
PUBLIC = "https://example.com/cat.png"


def picture(url: str, **fields: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    return chat(messages=[{"role": "user", "content": content}], **fields)


def spellings(body: dict[str, Any]) -> dict[str, bytes]:
    text = json.dumps(body)
    return {
        "plain": text.encode(),
        "spaced": json.dumps(body, indent=4).encode(),
        "escaped name": text.replace("image_url", "image_\\u0075rl").replace('"url"', '"\\u0075\\u0072l"').encode(),
        "escaped value": text.replace("169.254", "\\u0031\\u003669.254").replace("http:", "\\u0068ttp:").encode(),
        "twice": text.replace('"url": ', f'"url": "{PUBLIC}", "url": ').encode(),
    }


@pytest.mark.parametrize("padding", ["", "x" * 100_000, 'x"' * 50_000], ids=["small", "large", "large, of quotes"])
async def test_no_spelling_sends_an_engine_inside(tmp_path: Path, padding: str) -> None:
    bodies = spellings(picture(INSIDE, padding=padding))
    if not padding:  # a large one must be UTF-8
        bodies["UTF-16"] = json.dumps(picture(INSIDE)).encode("utf-16")
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        for spelling, body in bodies.items():
            code, answer, _ = await gw.post(body)
            assert (code, json.loads(answer)["error"]["code"]) == (400, "media_not_allowed"), spelling
            assert b"169.254" not in answer
        records = await gw.records(len(bodies))
    assert engine.seen == []
    assert {record.error for record in records} == {"media_not_allowed"}


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": INSIDE}]}]}),
        (
            "/v1/messages",
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": INSIDE}}]}]},
        ),
        ("/v1/rerank", {"query": "a", "documents": {"content": [{"type": "image_url", "image_url": {"url": INSIDE}}]}}),
        ("/v1/embeddings", {"messages": [{"role": "user", "content": [{"image_url": INSIDE}]}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"image_url": [PUBLIC, INSIDE]}]}]}),
        ("/pooling", {"data": {"data": INSIDE, "data_format": "url"}}),
        ("/pooling", {"data": {"data": "/etc/passwd", "data_format": "path"}}),
    ],
)
@pytest.mark.parametrize("padding", ["", "x" * 100_000], ids=["small", "large"])
async def test_on_no_path(tmp_path: Path, path: str, fields: dict[str, Any], padding: str) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        code, answer, _ = await gw.post({"model": MODEL, "padding": padding, **fields}, path=path)
    assert (code, json.loads(answer)["error"]["code"]) == (400, "media_not_allowed")
    assert engine.seen == []


@pytest.mark.parametrize("padding", ["", "x" * 100_000], ids=["small", "large"])
async def test_pictures_of_public_hosts_and_in_the_body_pass_byte_for_byte(tmp_path: Path, padding: str) -> None:
    tool = {"type": "function", "function": {"name": "get", "parameters": {"default": {"url": "http://localhost/"}}}}
    bodies = [
        json.dumps(picture(url, padding=padding, tools=[tool])).encode()
        for url in (PUBLIC, "data:image/png;base64," + "A" * len(padding))
    ]
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        assert [(await gw.post(body))[0] for body in bodies] == [200, 200]
    assert engine.bodies == bodies


async def test_an_operator_says_which_hosts(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine), options=GatewayOptions(media_hosts=("minio",)))
        found = [await gw.post(picture(url)) for url in ("http://minio:9000/a.png", PUBLIC)]
        await gw.route(revision("rev-a", 100, engine), options=GatewayOptions(media_hosts=("*",)), version=2)
        found.append(await gw.post(picture(INSIDE)))
    assert [code for code, _, _ in found] == [200, 400, 200]
    assert "minio" in json.loads(found[1][1])["error"]["message"]
