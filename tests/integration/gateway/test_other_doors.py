"""What a body may not hold is refused by every door alike: WebSocket, gRPC and batches ask the same pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway import kserve_client, test_batches
from tests.integration.gateway.harness import chat, gateway, revision
from tests.integration.gateway.test_sockets import answer, socket_to
from tests.integration.gateway.upstream import upstream

INSIDE = {"content": [{"type": "image_url", "image_url": {"url": "http://redis.databases/"}}], "role": "user"}
REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("engine_only_field", {"kv_transfer_params": {"remote_host": "10.0.0.1"}}),
    ("engine_only_field", {"id_slot": 0}),
    ("media_not_allowed", {"messages": [INSIDE]}),
]


@pytest.mark.parametrize(("code", "fields"), REFUSED)
async def test_over_a_websocket(tmp_path: Path, code: str, fields: dict[str, Any]) -> None:
    async with gateway(tmp_path, websocket=True) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with socket_to(gw) as socket:
            (told,) = await answer(socket, {**chat(), **fields})
    assert told["error"]["code"] == code
    assert engine.seen == []


@pytest.mark.parametrize(("code", "fields"), REFUSED)
async def test_in_a_line_of_a_batch(tmp_path: Path, code: str, fields: dict[str, Any]) -> None:
    asked = {**chat(stream=False), **fields}
    line = {"custom_id": "c0", "method": "POST", "url": test_batches.CHAT, "body": asked}
    async with gateway(tmp_path, batch_days=1) as gw, upstream("e1") as engine:
        await gw.push(test_batches.routed(engine, "a"))
        async with test_batches.client(gw) as made:
            batch = await test_batches.given(made, json.dumps(line).encode())
            batch = await test_batches.ended(made, batch.id)
            (found,) = await test_batches.results(made, batch.error_file_id or batch.output_file_id)
    assert (found["response"]["status_code"], found["response"]["body"]["error"]["code"]) == (400, code)
    assert engine.seen == []


@pytest.mark.parametrize("name", ["id_slot", "bootstrap_port", "data_parallel_rank"])
async def test_in_the_parameters_of_a_grpc_call(tmp_path: Path, name: str) -> None:
    asked = kserve_client.asking()
    asked.parameters[name].int64_param = 0
    async with gateway(tmp_path, grpc_port=0) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with kserve_client.client(gw) as made:
            error = await kserve_client.refused(made.call("ModelInfer", asked))
    assert error.code() is kserve_client.Code.INVALID_ARGUMENT
    assert engine.seen == []
