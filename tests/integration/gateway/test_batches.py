"""OpenAI's files and batches, run through the gateway's own pipeline, and gone on with after an end of any kind."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from aiohttp import web

from controlplane.domain.door.gateway_files import batches_dir
from controlplane.domain.door.routing import RoutingTable
from controlplane.gateway.batches import runner
from tests.integration.gateway.harness import MODEL, Gateway, gateway, revision, table
from tests.integration.gateway.test_limits import key
from tests.integration.gateway.upstream import Script, Upstream, slam, upstream

CHAT = "/v1/chat/completions"


def lines(count: int, **body: Any) -> bytes:
    rows = [
        {
            "custom_id": f"c{number}",
            "method": "POST",
            "url": CHAT,
            "body": {"model": MODEL, "messages": [{"role": "user", "content": f"q{number}"}], **body},
        }
        for number in range(count)
    ]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def question_of(body: bytes) -> str:
    return str(json.loads(body)["messages"][0]["content"])


def answering(held: Callable[[str], bool] = lambda question: False, status: int = 200) -> Script:
    """Say the question back; hold those that are to be held until their caller goes away."""

    async def script(request: web.Request) -> web.StreamResponse:
        question = question_of(await request.read())
        if held(question):
            await asyncio.Event().wait()
        answer = {"choices": [{"index": 0, "message": {"content": f"a-{question}"}, "finish_reason": "stop"}]}
        return web.json_response(answer, status=status)

    return script


def gated(gate: asyncio.Event, question: str) -> Script:
    """Answer; one question not before the gate is open."""

    async def script(request: web.Request) -> web.StreamResponse:
        if question_of(await request.read()) == question:
            await gate.wait()
        return await answering()(request)

    return script


def routed(engine: Upstream, *names: str, version: int = 1) -> RoutingTable:
    keys = tuple(key(name, tenant=name) for name in names)
    return table(revision("rev-a", 100, engine), version=version).evolve(api_keys=keys)


@asynccontextmanager
async def client(gw: Gateway, name: str = "a") -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{gw.url}/v1", api_key=name, max_retries=0) as made:
        yield made


async def given(made: openai.AsyncOpenAI, content: bytes, **changes: Any) -> Any:
    file = await made.files.create(file=("in.jsonl", content), purpose="batch")
    fields: dict[str, Any] = {"endpoint": CHAT, "completion_window": "24h"} | changes
    return await made.batches.create(input_file_id=file.id, **fields)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something, as long as only a dead process would take."""
    async with asyncio.timeout(240):
        while not holds():  # noqa: ASYNC110  # the other end tells nobody
            await asyncio.sleep(0.02)


async def ended(made: openai.AsyncOpenAI, batch_id: str) -> Any:
    """Wait for a batch's end, as long as a dead process would take."""
    async with asyncio.timeout(240):
        while True:
            batch = await made.batches.retrieve(batch_id)
            if batch.status in ("completed", "failed", "expired", "cancelled"):
                return batch
            await asyncio.sleep(0.05)


async def results(made: openai.AsyncOpenAI, file_id: str) -> list[Any]:
    content = await made.files.content(file_id)
    return [json.loads(line) for line in content.text.splitlines()]


async def test_openais_client_runs_a_batch(tmp_path: Path) -> None:
    async with gateway(tmp_path, batch_days=1) as gw, upstream("e1", answering()) as engine:
        await gw.push(routed(engine, "a"))
        async with client(gw) as made:
            batch = await given(made, lines(5), metadata={"for": "a test"})
            assert (batch.status, batch.metadata) == ("validating", {"for": "a test"})
            batch = await ended(made, batch.id)
            assert (batch.status, batch.errors, batch.error_file_id) == ("completed", None, None)
            assert batch.request_counts.model_dump() == {"total": 5, "completed": 5, "failed": 0}
            found = await results(made, batch.output_file_id)
            said = {each["custom_id"]: each["response"]["body"]["choices"][0]["message"]["content"] for each in found}
            assert said == {f"c{number}": f"a-q{number}" for number in range(5)}
            assert [each.id async for each in made.batches.list()] == [batch.id]
            assert {each.id async for each in made.files.list()} == {batch.input_file_id, batch.output_file_id}
            await made.files.delete(batch.output_file_id)
            with pytest.raises(openai.NotFoundError):
                await made.files.content(batch.output_file_id)
        records = await gw.records(5)
    assert {record.id for record in records} == {each["response"]["request_id"] for each in found}
    assert all((record.key, record.tenant, record.path) == ("a", "a", CHAT) for record in records)
    modes = {path.stat().st_mode & 0o777 for path in batches_dir(tmp_path).rglob("*") if path.is_file()}
    assert modes == {0o600}


async def test_a_gateway_that_ends_in_the_middle_is_gone_on_with_and_no_line_is_lost_or_twice(tmp_path: Path) -> None:
    late = {"q3", "q5"}
    async with upstream("e1", answering(lambda question: question in late)) as engine:
        async with gateway(tmp_path, batch_days=1, drain_s=0) as gw:
            await gw.push(routed(engine, "a"))
            async with client(gw) as made:
                batch = await given(made, lines(8))
                state = batches_dir(tmp_path) / "batches" / batch.id / "batch.json"
                await until(lambda: json.loads(state.read_bytes())["completed"] == 6)
        journal = next(batches_dir(tmp_path).rglob("journal"))
        with journal.open("ab") as file:
            file.write(b'4 1 {"half a li')  # what kill -9 leaves of a line
        late.clear()
        async with gateway(tmp_path, batch_days=1) as gw, client(gw) as made:
            batch = await ended(made, batch.id)
            found = await results(made, batch.output_file_id)
    assert batch.request_counts.model_dump() == {"total": 8, "completed": 8, "failed": 0}
    assert Counter(each["custom_id"] for each in found) == Counter({f"c{number}": 1 for number in range(8)})
    asked = Counter(map(question_of, engine.bodies))
    assert {question for question, times in asked.items() if times > 1} == {"q3", "q5"}  # those under way


async def test_a_line_at_which_engines_break_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LONGEST_WAIT_S", 0.0)
    async with gateway(tmp_path, batch_days=1) as gw, upstream("e1", slam()) as engine:
        await gw.push(routed(engine, "a"))
        async with client(gw) as made:
            batch = await ended(made, (await given(made, lines(1))).id)
            assert batch.request_counts.model_dump() == {"total": 1, "completed": 0, "failed": 1}
            found = await results(made, batch.error_file_id)
    assert found[0]["response"]["status_code"] == 502


async def test_what_an_engine_refuses_is_in_the_file_of_errors(tmp_path: Path) -> None:
    async with gateway(tmp_path, batch_days=1) as gw, upstream("e1", answering(status=400)) as engine:
        await gw.push(routed(engine, "a"))
        async with client(gw) as made:
            batch = await ended(made, (await given(made, lines(2))).id)
            assert (batch.status, batch.output_file_id) == ("completed", None)
            found = await results(made, batch.error_file_id)
    assert [each["response"]["status_code"] for each in found] == [400, 400]


@pytest.mark.parametrize(
    ("content", "line", "code"),
    [
        (b"", None, "empty_file"),
        (lines(1) + b"{\n", 2, "invalid_json_line"),
        (lines(1) + lines(1), 2, "duplicate_custom_id"),
        (lines(1, stream=True), 1, "invalid_request"),
    ],
)
async def test_a_file_that_cannot_be_used_runs_nothing(tmp_path: Path, content: bytes, line: int, code: str) -> None:
    async with gateway(tmp_path, batch_days=1) as gw, upstream("e1", answering()) as engine:
        await gw.push(routed(engine, "a"))
        async with client(gw) as made:
            batch = await ended(made, (await given(made, content)).id)
    assert batch.status == "failed"
    assert [(each.line, each.code) for each in batch.errors.data] == [(line, code)]
    assert engine.seen == []


async def test_a_batch_is_cancelled_and_gives_what_it_had(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with gateway(tmp_path, batch_days=1, batch_at_once=1) as gw, upstream("e1", gated(gate, "q1")) as engine:
        await gw.push(routed(engine, "a"))
        async with client(gw) as made:
            batch = await given(made, lines(3))
            await until(lambda: len(engine.seen) == 2)
            assert (await made.batches.cancel(batch.id)).status == "cancelling"
            assert (await made.batches.retrieve(batch.id)).status == "cancelling"
            gate.set()
            batch = await ended(made, batch.id)
            assert (batch.status, batch.request_counts.completed, batch.request_counts.total) == ("cancelled", 2, 3)
            assert [each["custom_id"] for each in await results(made, batch.output_file_id)] == ["c0", "c1"]
            with pytest.raises(openai.ConflictError):
                await made.batches.cancel(batch.id)
    assert len(engine.seen) == 2


async def test_a_key_that_was_revoked_asks_no_more(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with gateway(tmp_path, batch_days=1, batch_at_once=1) as gw, upstream("e1", gated(gate, "q0")) as engine:
        await gw.push(routed(engine, "a", "b"))
        async with client(gw) as made:
            batch = await given(made, lines(3))
            await until(lambda: len(engine.seen) == 1)
            await gw.push(routed(engine, "b", version=2))
            gate.set()
            state = batches_dir(tmp_path) / "batches" / batch.id / "batch.json"
            await until(lambda: json.loads(state.read_bytes())["status"] == "completed")
            with pytest.raises(openai.AuthenticationError):
                await made.batches.retrieve(batch.id)
    told = json.loads(state.read_bytes())
    assert (told["completed"], told["failed"], len(engine.seen)) == (1, 2, 1)


async def test_lines_that_a_tenants_limit_puts_off_keep_nobody_elses_batch_away(tmp_path: Path) -> None:
    async with gateway(tmp_path, batch_days=1, batch_at_once=2) as gw, upstream("e1", answering()) as engine:
        spent = key("a", tenant="a", tokens_per_day=1)
        await gw.push(table(revision("rev-a", 100, engine)).evolve(api_keys=(spent, key("b", tenant="b"))))
        async with client(gw, "a") as one, client(gw, "b") as other:
            waits = await given(one, lines(6))
            await until(lambda: len(engine.seen) == 1)  # the first may go beyond what is left, and nothing after it
            batch = await ended(other, (await given(other, lines(3))).id)
            assert (batch.status, batch.request_counts.completed) == ("completed", 3)
            await one.batches.cancel(waits.id)
    assert Counter(map(question_of, engine.bodies)) == Counter({"q0": 2, "q1": 1, "q2": 1})


async def test_what_an_owner_wrote_is_what_an_engine_gets(tmp_path: Path) -> None:
    async with gateway(tmp_path, batch_days=1) as gw, upstream("e1", answering()) as engine:
        await gw.push(routed(engine, "a"))
        written = b'{ "messages":[{"role":"user","content":"\\u0071"}],"model":"llama", "seed": 1e2}'
        asked = b'"body": ' + written + b', "custom_id": "x", "method": "POST", "url": "/v1/chat/completions"'
        async with client(gw) as made:
            await ended(made, (await given(made, b"{" + asked + b"}\n")).id)
    assert engine.bodies == [written]


async def test_another_tenants_key_of_a_revoked_ones_name_runs_nothing_of_it(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with gateway(tmp_path, batch_days=1, batch_at_once=1) as gw, upstream("e1", gated(gate, "q0")) as engine:
        await gw.push(routed(engine, "a"))
        async with client(gw) as made:
            batch = await given(made, lines(3))
            await until(lambda: len(engine.seen) == 1)
            table = routed(engine, "a", version=2)
            await gw.push(table.evolve(api_keys=tuple(key.evolve(tenant="bank") for key in table.api_keys)))
            gate.set()
            state = batches_dir(tmp_path) / "batches" / batch.id / "batch.json"
            await until(lambda: json.loads(state.read_bytes())["status"] == "completed")
    assert len(engine.seen) == 1


async def test_tenants_see_their_own_only(tmp_path: Path) -> None:
    async with gateway(tmp_path, batch_days=1) as gw, upstream("e1", answering()) as engine:
        await gw.push(routed(engine, "a", "b"))
        async with client(gw, "a") as one, client(gw, "b") as other:
            batch = await given(one, lines(1))
            calls = (
                other.batches.retrieve(batch.id),
                other.batches.cancel(batch.id),
                other.files.retrieve(batch.input_file_id),
                other.files.content(batch.input_file_id),
                other.files.delete(batch.input_file_id),
            )
            for call in calls:
                with pytest.raises(openai.NotFoundError):
                    await call
            assert [each async for each in other.batches.list()] == []
            assert [each async for each in other.files.list()] == []
            with pytest.raises(openai.BadRequestError, match="input_file_id"):
                await other.batches.create(
                    input_file_id=batch.input_file_id, endpoint="/v1/chat/completions", completion_window="24h"
                )
            await ended(one, batch.id)


@pytest.mark.parametrize("path", ["..%2f..%2fx", "file-1", "batch-", "a" * 300, "%00"])
async def test_odd_ids_are_no_files(tmp_path: Path, path: str) -> None:
    async with gateway(tmp_path, batch_days=1) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        for kind in ("files", "batches"):
            async with gw.session.get(f"{gw.url}/v1/{kind}/{path}") as response:
                assert response.status in (400, 404)


async def test_a_file_that_is_too_large_or_no_form_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    async with gateway(tmp_path, batch_days=1, batch_file_bytes=100) as gw, upstream("e1") as engine:
        await gw.push(routed(engine, "a"))
        async with client(gw) as made:
            with pytest.raises(openai.APIStatusError) as raised:
                await made.files.create(file=("in.jsonl", b"x" * 200), purpose="batch")
            assert raised.value.status_code == 413
            with pytest.raises(openai.BadRequestError, match="purpose"):
                await made.files.create(file=("in.jsonl", b"x"), purpose="fine-tune")
        code, _, _ = await gw.post(b"{}", path="/v1/files", Authorization="Bearer a")
        assert code == 400
    assert [path.name for path in batches_dir(tmp_path).rglob("*") if path.is_file()] == ["lock"]


async def test_without_batches_the_paths_are_unknown(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        code, body, _ = await gw.post({}, path="/v1/batches")
    assert (code, json.loads(body)["error"]["code"]) == (404, "unknown_url")
