"""What engines and routers tell each other no client may write: a field is refused, a header not passed on."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from controlplane.gateway.engine_only import ENGINE_ONLY_FIELDS, ENGINE_ONLY_HEADERS
from controlplane.gateway.paths import PASSED_ON, Shape
from tests.integration.gateway.harness import MODEL, chat, gateway, revision
from tests.integration.gateway.upstream import upstream

ELSEWHERE = {"do_remote_prefill": True, "remote_host": "10.0.0.1", "remote_port": 22}
CASES = [
    ("kv_transfer_params", {"kv_transfer_params": ELSEWHERE}),
    ("ec_transfer_params", {"ec_transfer_params": ELSEWHERE}),
    ("kv_transfer_params", {"vllm_xargs": {"kv_transfer_params": "x"}}),
    ("bootstrap_host", {"bootstrap_host": "10.0.0.1"}),
    ("rid", {"rid": "another's"}),
    ("id_slot", {"id_slot": 0}),
    ("data_parallel_rank", {"data_parallel_rank": 0}),
    ("lora_path", {"lora_path": "adapter-of-another"}),
    ("custom_logit_processor", {"custom_logit_processor": "gASV"}),
]


@pytest.mark.parametrize("padding", ["", "x" * 100_000], ids=["small", "large"])
@pytest.mark.parametrize(("name", "fields"), CASES)
async def test_a_client_cannot_tell_an_engine_where_to_go(
    tmp_path: Path, name: str, fields: dict[str, Any], padding: str
) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        code, body, _ = await gw.post(chat(padding=padding, **fields))
    error = json.loads(body)["error"]
    assert (code, error["code"], error["param"]) == (400, "engine_only_field", name)
    assert "10.0.0.1" not in body.decode()
    assert engine.seen == []


@pytest.mark.parametrize("path", sorted(path for path, passed in PASSED_ON.items() if passed.shape is Shape.JSON))
async def test_on_no_path(tmp_path: Path, path: str) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        for name in sorted(ENGINE_ONLY_FIELDS):
            code, body, _ = await gw.post({"model": MODEL, "input": "a", name: "x"}, path=path)
            assert (code, json.loads(body)["error"]["param"]) == (400, name)
    assert engine.seen == []


async def test_an_answer_that_is_stored_has_no_name_of_its_clients(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        asked = {"model": MODEL, "input": "a", "request_id": "resp_another"}
        code, body, _ = await gw.post(asked, path="/v1/responses")
        assert (code, json.loads(body)["error"]["param"]) == (400, "request_id")
        assert (await gw.post(chat(request_id="mine")))[0] == 200  # the header goes before it there


async def test_what_is_empty_and_what_is_an_operators_own_passes(tmp_path: Path) -> None:
    sent = chat(kv_transfer_params=None, ec_transfer_params={}, rid="", lora_path=[], vllm_xargs={"ngram_size": 30})
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        assert (await gw.post(sent))[0] == 200
        assert json.loads(engine.bodies[0]) == sent


async def test_headers_between_engines_are_not_passed_on(tmp_path: Path) -> None:
    spoken = {name.title(): "10.0.0.1:22" for name in ENGINE_ONLY_HEADERS}
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        data = io.BytesIO(json.dumps(chat()).encode())
        headers = {**spoken, "X-Kept": "1"}
        async with gw.session.post(f"{gw.url}/v1/chat/completions", data=data, headers=headers) as response:
            assert response.status == 200
    passed = {name.lower() for name in engine.seen[0].headers}
    assert not passed & ENGINE_ONLY_HEADERS
    assert "x-kept" in passed
