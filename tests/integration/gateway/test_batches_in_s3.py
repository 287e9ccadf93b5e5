"""Batches whose files lie in a bucket: uploads, results, and what happens when either side dies."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import openai
import pytest
from aiohttp import web

from controlplane.domain.door.gateway_files import batches_dir
from controlplane.gateway.__main__ import main
from controlplane.gateway.batches.contents_s3 import PART_BYTES
from tests.fakes.s3 import BUCKET, SECRET, FakeS3, fake_s3
from tests.integration.gateway.harness import gateway, revision, table
from tests.integration.gateway.test_batches import answering, client, ended, given, lines, results, routed, until
from tests.integration.gateway.test_process import give, process, serving
from tests.integration.gateway.upstream import Script, upstream

KEPT = {"batch_days": 1, "batch_s3": f"{BUCKET}/ours"}


def in_environment(fake: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in fake.environment().items():
        monkeypatch.setenv(name, value)


def answering_at_length(size: int) -> Script:
    async def script(request: web.Request) -> web.StreamResponse:
        message = {"content": "x" * size}
        return web.json_response({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    return script


def on_disk(data_dir: Path) -> set[str]:
    """What contents lie in the data folder."""
    return {path.name for path in batches_dir(data_dir).rglob("*.jsonl")}


async def test_files_and_results_lie_in_the_bucket_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fake_s3() as fake, upstream("e1", answering()) as engine:
        in_environment(fake, monkeypatch)
        async with gateway(tmp_path, **KEPT) as gw, client(gw) as made:
            await gw.push(routed(engine, "a"))
            batch = await ended(made, (await given(made, lines(3))).id)
            assert {each["custom_id"] for each in await results(made, batch.output_file_id)} == {"c0", "c1", "c2"}
            content = await made.files.content(batch.input_file_id)
            assert content.content == lines(3)
            names = {key.rpartition("/")[2] for key in fake.objects}
            assert names == {f"{batch.input_file_id}.jsonl", f"{batch.output_file_id}.jsonl"}
            assert {key.split("/")[0] for key in fake.objects} == {"ours"}
            assert on_disk(tmp_path) == set()
            await made.files.delete(batch.output_file_id)
            await until(lambda: len(fake.objects) == 1)
            with pytest.raises(openai.NotFoundError):
                await made.files.content(batch.output_file_id)


async def test_a_bucket_that_does_not_answer_refuses_uploads_and_holds_a_batch_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()

    async def script(request: web.Request) -> web.StreamResponse:
        await gate.wait()
        return await answering()(request)

    async with fake_s3() as fake, upstream("e1", script) as engine:
        in_environment(fake, monkeypatch)
        async with gateway(tmp_path, **KEPT) as gw, client(gw) as made:
            await gw.push(routed(engine, "a"))
            batch = await given(made, lines(2))
            await until(lambda: len(engine.seen) == 2)
            fake.breaks = True
            gate.set()
            with pytest.raises(openai.InternalServerError) as raised:
                await made.files.create(file=("in.jsonl", b"x"), purpose="batch")
            assert (raised.value.status_code, raised.value.code) == (503, "storage_unavailable")
            assert SECRET not in str(raised.value)
            with pytest.raises(openai.InternalServerError):
                await made.files.content(batch.input_file_id)
            await gw.until(lambda status: any("storage of files" in each for each in status["troubles"]))
            fake.breaks = False
            batch = await ended(made, batch.id)
            await gw.until(lambda status: status["troubles"] == [])
            assert len(await results(made, batch.output_file_id)) == 2
    assert len(engine.seen) == 2  # answers were not asked for again


@pytest.mark.slow
async def test_kill_9_in_the_middle_of_giving_out_results_loses_no_line_and_repeats_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--batch-days=1", f"--batch-s3={BUCKET}")
    async with fake_s3() as fake, upstream("e1", answering_at_length(PART_BYTES // 2)) as engine:
        in_environment(fake, monkeypatch)
        fake.holds = asyncio.Event()
        async with process(tmp_path, *options) as first:
            address = await serving(first, tmp_path)
            await give(address, table(revision("rev-a", 100, engine)))
            async with openai.AsyncOpenAI(base_url=f"{address.url}/v1", api_key="none") as made:
                batch = await given(made, lines(5))
            async with asyncio.timeout(240):
                await fake.held.wait()
            first.kill()
            await first.wait()
        assert len(fake.objects) == 1  # the input
        fake.holds.set()
        async with process(tmp_path, *options) as second:
            address = await serving(second, tmp_path)
            async with openai.AsyncOpenAI(base_url=f"{address.url}/v1", api_key="none") as made:
                batch = await ended(made, batch.id)
                found: list[Any] = await results(made, batch.output_file_id)
    assert Counter(each["custom_id"] for each in found) == Counter(f"c{number}" for number in range(5))
    assert {len(each["response"]["body"]["choices"][0]["message"]["content"]) for each in found} == {PART_BYTES // 2}
    assert len(engine.seen) == 5
    assert len({json.loads(body)["messages"][0]["content"] for body in engine.bodies}) == 5


def test_what_is_no_bucket_is_said_at_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--data-dir={tmp_path}", "--batch-days=1", "--batch-s3=../files"]) == 2
    assert "batch_s3" in capsys.readouterr().err
