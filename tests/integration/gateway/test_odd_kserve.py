"""What no client of gRPC's usually asks is answered as what it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from controlplane.gateway.kserve.messages import message
from tests.integration.gateway.harness import gateway, revision
from tests.integration.gateway.kserve_client import Code, asking, client, refused, said
from tests.integration.gateway.upstream import DONE, pieces, status, upstream


@pytest.mark.parametrize("name", ["", ".", "..", "/", "../ready", "%2e", "?x", "a/../b"])
@pytest.mark.parametrize("call", ["ModelReady", "ModelMetadata"])
async def test_a_name_that_is_no_models_is_not_found(tmp_path: Path, call: str, name: str) -> None:
    async with gateway(tmp_path, grpc_port=0) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with client(gw) as made:
            assert (await refused(made.call(call, message(f"{call}Request")(name=name)))).code() is Code.NOT_FOUND


@pytest.mark.parametrize("counted", [-1, 1 << 32, 10**30, "3", None, 1.5])
@pytest.mark.parametrize("streamed", [True, False])
async def test_what_an_engine_cannot_have_counted_is_left_out(tmp_path: Path, counted: Any, streamed: bool) -> None:
    choices = [{"index": 0, "text": "x", "finish_reason": "stop"}]
    answer = json.dumps({"choices": choices, "usage": {"prompt_tokens": counted, "completion_tokens": 2}}).encode()
    script = pieces(b"data: %b\n\n" % answer, DONE) if streamed else status(200, answer)
    request = asking(stream=streamed)
    for name in ("return_num_input_tokens", "return_num_output_tokens"):
        request.inputs.add(name=name, datatype="BOOL", shape=[1]).contents.bool_contents.append(True)
    async with gateway(tmp_path, grpc_port=0) as gw, upstream("e1", script) as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with client(gw) as made:
            found = [each.infer_response async for each in made.stream(request)]
    assert said(found[0]) == "x"
    assert [each.name for each in found[-1].outputs if each.name.startswith("num_")] == ["num_output_tokens"]
