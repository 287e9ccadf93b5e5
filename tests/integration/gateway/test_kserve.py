"""The Open Inference Protocol over gRPC, with a client of grpcio: on the same pipeline as HTTP."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import grpc
import pytest

from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.queue_options import QueueOptions
from controlplane.gateway.kserve.messages import message
from tests.integration.gateway.harness import MODEL, gateway, revision, table
from tests.integration.gateway.kserve_client import STREAM, Code, answering, asking, client, refused, said, text_event
from tests.integration.gateway.test_auditing import entries
from tests.integration.gateway.test_limits import key
from tests.integration.gateway.test_tls import Files, files  # noqa: F401  # a fixture
from tests.integration.gateway.upstream import DONE, held, pieces, slam, upstream


async def test_a_text_is_answered_and_recorded_as_by_http(tmp_path: Path) -> None:
    async with gateway(tmp_path, grpc_port=0) as gw, upstream("e1", answering()) as engine:
        await gw.push(table(revision("rev-a", 100, engine)).evolve(api_keys=(key("a", tenant="t"),)))
        async with client(gw, "a") as made:
            calling = made.begin("ModelInfer", asking("a prompt", max_tokens=9))
            response = await calling
            told = dict(await calling.trailing_metadata())
        record = (await gw.records(1))[0]
    assert (said(response), response.id, response.model_version) == ("an answer", "r1", "rev-a")
    assert json.loads(engine.bodies[0]) == {"model": MODEL, "prompt": "a prompt", "stream": False, "max_tokens": 9}
    assert "Authorization" not in engine.seen[0].headers
    assert told["x-request-id"] == record.id
    assert (record.key, record.tenant, record.path, record.status) == ("a", "t", "/v1/completions", 200)
    assert record.prompt_tokens == 3


async def test_a_stream_is_passed_on_piece_by_piece_and_several_requests_are_answered_in_turn(tmp_path: Path) -> None:
    async with gateway(tmp_path, grpc_port=0) as gw, upstream("e1", pieces(*STREAM)) as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with client(gw) as made:
            found = [each.infer_response async for each in made.stream(asking(stream=True), asking(stream=True))]
    assert [said(each) for each in found] == ["one ", "two", ""] * 2
    assert [each.parameters["triton_final_response"].bool_param for each in found] == [False, False, True] * 2


async def test_a_piece_comes_before_the_answer_has_ended(tmp_path: Path) -> None:
    gate = asyncio.Event()
    script = held(gate, text_event("first"), after=text_event("last", "stop") + DONE)
    async with gateway(tmp_path, grpc_port=0) as gw, upstream("e1", script) as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with client(gw) as made:
            stream = made.stream(asking(stream=True))
            assert said((await stream.read()).infer_response) == "first"
            gate.set()
            assert said((await stream.read()).infer_response) == "last"


async def test_an_answer_in_one_piece_is_one_response_of_a_stream(tmp_path: Path) -> None:
    async with gateway(tmp_path, grpc_port=0) as gw, upstream("e1", answering()) as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with client(gw) as made:
            found = [said(each.infer_response) async for each in made.stream(asking())]
    assert found == ["an answer"]


async def test_a_wrong_key_is_refused_and_audited(tmp_path: Path) -> None:
    async with gateway(tmp_path, grpc_port=0, audit_days=1) as gw, upstream("e1") as engine:
        await gw.push(table(revision("rev-a", 100, engine)).evolve(api_keys=(key("a"),)))
        async with client(gw, "wrong") as made:
            for name, request in (
                ("ModelInfer", asking()),
                ("ModelReady", message("ModelReadyRequest")(name=MODEL)),
                ("ModelMetadata", message("ModelMetadataRequest")(name=MODEL)),
            ):
                assert (await refused(made.call(name, request))).code() is Code.UNAUTHENTICATED
            assert (await refused(made.stream(asking(stream=True)).read())).code() is Code.UNAUTHENTICATED
    assert engine.seen == []
    happened = [entry.happened for entry in entries(tmp_path)]
    assert [(each.decision.value, each.path) for each in happened] == [("refused", "/v1/completions")] * 2


async def test_a_limit_and_an_overload_have_their_status(tmp_path: Path) -> None:
    keys = (key("a", requests_per_minute=1),)
    async with gateway(tmp_path, grpc_port=0) as gw, upstream("e1", answering()) as engine:
        await gw.push(table(revision("rev-a", 100, engine)).evolve(api_keys=keys))
        async with client(gw, "a") as made:
            await made.call("ModelInfer", asking())
            error = await refused(made.call("ModelInfer", asking()))
            assert error.code() is Code.RESOURCE_EXHAUSTED
            told = {name: value for name, value in error.trailing_metadata()}
            assert int(told["retry-after"]) > 0
            assert told["x-ratelimit-limit-requests"] == "1"
        await gw.push(table(revision("rev-a", 100), version=2).evolve(api_keys=(key("a"),)))
        async with client(gw, "a") as made:
            assert (await refused(made.call("ModelInfer", asking()))).code() is Code.UNAVAILABLE


async def test_who_waited_for_a_place_in_vain_is_told_unavailable(tmp_path: Path) -> None:
    gate = asyncio.Event()
    options = GatewayOptions(queue=QueueOptions(enabled=True, max_wait_s=0.1))
    script = held(gate, text_event("x"), after=text_event("y", "stop") + DONE)
    async with gateway(tmp_path, grpc_port=0) as gw, upstream("e1", script) as engine:
        await gw.route(revision("rev-a", 100, engine).evolve(concurrency_limit=1), options=options)
        async with client(gw) as made:
            stream = made.stream(asking(stream=True))
            await stream.read()
            assert (await refused(made.call("ModelInfer", asking()))).code() is Code.UNAVAILABLE
            gate.set()
            assert said((await stream.read()).infer_response) == "y"


@pytest.mark.parametrize("streams", [True, False])
async def test_a_cancelled_call_and_one_whose_deadline_is_over_free_the_engine(tmp_path: Path, streams: bool) -> None:
    script = held(asyncio.Event(), text_event("x"))
    async with gateway(tmp_path, grpc_port=0) as gw, upstream("e1", script) as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with client(gw) as made:
            if streams:
                stream = made.stream(asking(stream=True))
                await stream.read()
                stream.cancel()
            else:
                for within_s in (0.5, 5, 50):  # until one has come to the engine before it was over
                    error = await refused(made.call("ModelInfer", asking(), timeout=within_s))
                    assert error.code() is Code.DEADLINE_EXCEEDED
                    if engine.seen:
                        break
            async with asyncio.timeout(240):
                await engine.hung_up.wait()
        record = (await gw.records(1))[0]
    assert record.client_gone


async def test_a_call_takes_no_longer_than_it_may(tmp_path: Path) -> None:
    script = held(asyncio.Event(), text_event("x"))
    async with gateway(tmp_path, grpc_port=0, grpc_within_s=0.3) as gw, upstream("e1", script) as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with client(gw) as made:
            assert (await refused(made.call("ModelInfer", asking()))).code() is Code.DEADLINE_EXCEEDED
            stream = made.stream(asking(stream=True))
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                async for _ in stream:
                    pass
            assert raised.value.code() is Code.DEADLINE_EXCEEDED


async def test_errors_inside_a_stream_are_messages_or_its_status(tmp_path: Path) -> None:
    async with gateway(tmp_path, grpc_port=0) as gw, upstream("e1", slam()) as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with client(gw) as made:
            found = [each async for each in made.stream(asking(stream=True), asking(model="other"))]
            assert "`other` is not served" in found[1].error_message
            assert (found[1].infer_response.id, found[0].error_message != "") == ("r1", True)
            stream = made.stream(asking(model="other"), metadata=(("triton_grpc_error", "true"),))
            assert (await refused(stream.read())).code() is Code.NOT_FOUND


async def test_an_engine_that_breaks_off_is_said_in_the_stream(tmp_path: Path) -> None:
    async with gateway(tmp_path, grpc_port=0) as gw, upstream("e1", pieces(text_event("x"))) as engine:
        await gw.route(revision("rev-a", 100, engine))
        async with client(gw) as made:
            found = [each async for each in made.stream(asking(stream=True))]
    assert [said(found[0].infer_response), "broke off" in found[1].error_message] == ["x", True]
