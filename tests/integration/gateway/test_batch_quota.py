"""Uploads and batches that would break a bound: refused in OpenAI's shape before anything of them is written."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from controlplane.domain.door.batch_quota import BatchQuota
from controlplane.domain.door.gateway_files import batches_dir
from tests.integration.gateway.harness import Gateway, gateway, revision
from tests.integration.gateway.test_batches import answering, client, ended, gated, given, lines, routed, until
from tests.integration.gateway.upstream import upstream

FRAME_BYTES = 1000
"""More than a form is larger than its file."""


def quota(**bounds: int) -> dict[str, Any]:
    return {"batch_days": 1, "batch_quota": BatchQuota(**{"free_disk_bytes": 0} | bounds)}


def kept(data_dir: Path) -> list[Path]:
    return [path for path in (batches_dir(data_dir) / "files").rglob("*") if path.is_file()]


def form(content: bytes) -> aiohttp.FormData:
    made = aiohttp.FormData({"purpose": "batch"})
    made.add_field("file", content, filename="in.jsonl")
    return made


async def upload(gw: Gateway, content: bytes) -> tuple[int, str | None]:
    async with gw.session.post(f"{gw.url}/v1/files", data=form(content)) as response:
        answer = await response.json()
        return response.status, answer["error"]["code"] if response.status != 200 else None


@pytest.mark.parametrize(
    ("bounds", "status", "code"),
    [
        ({"tenant_bytes": 50}, 429, "insufficient_quota"),
        ({"tenant_files": 0}, 429, "insufficient_quota"),
        ({"all_bytes": 50}, 507, "insufficient_storage"),
        ({"free_disk_bytes": 1 << 60}, 507, "insufficient_storage"),
    ],
)
async def test_an_upload_without_a_place_is_refused_and_nothing_is_written(
    tmp_path: Path, bounds: dict[str, int], status: int, code: str
) -> None:
    async with gateway(tmp_path, **quota(**bounds)) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        assert await upload(gw, b"x" * 100) == (status, code)
    assert kept(tmp_path) == []


async def test_a_body_that_is_announced_too_large_is_refused_before_it_comes(tmp_path: Path) -> None:
    async with gateway(tmp_path, **quota(), batch_file_bytes=1000) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        host, port = gw.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = "POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n"
        writer.write(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode())
        assert b" 413 " in await reader.readline()
        writer.close()


async def test_two_uploads_at_once_cannot_take_the_last_place_twice(tmp_path: Path) -> None:
    async with (
        gateway(tmp_path, **quota(tenant_bytes=50_000 + FRAME_BYTES)) as gw,
        gateway(tmp_path, name="gw-2", **quota(tenant_bytes=50_000 + FRAME_BYTES)) as other,
        upstream("e1") as engine,
    ):
        for each in (gw, other):
            await each.route(revision("rev-a", 100, engine))
        found = await asyncio.gather(*(upload(each, b"x" * 50_000) for each in (gw, other) * 3))
        assert sorted(status for status, _ in found) == [200] + [429] * 5
        assert {path.suffix for path in kept(tmp_path)} == {".json", ".jsonl"}
        assert len(kept(tmp_path)) == 2
        for path in kept(tmp_path):
            path.unlink()
        assert (await upload(gw, b"x" * 50_000))[0] == 200


async def test_a_refused_upload_gives_its_place_back(tmp_path: Path) -> None:
    async with gateway(tmp_path, **quota(tenant_files=1)) as gw, upstream("e1") as engine:
        await gw.route(revision("rev-a", 100, engine))
        assert (await gw.post(b"{}", path="/v1/files", **{"Content-Type": "multipart/form-data; boundary=x"}))[0] == 400
        assert await upload(gw, b"x") == (200, None)
        assert await upload(gw, b"x") == (429, "insufficient_quota")


async def test_batches_under_way_are_bounded_and_the_next_may_come_when_one_has_ended(tmp_path: Path) -> None:
    gate = asyncio.Event()
    settings = quota(tenant_open_batches=1)
    async with gateway(tmp_path, **settings) as gw, upstream("e1", gated(gate, "q0")) as engine:
        await gw.push(routed(engine, "a", "b"))
        async with client(gw) as made, client(gw, "b") as other:
            first = await given(made, lines(1))
            with pytest.raises(openai.RateLimitError) as raised:
                await given(made, lines(1))
            assert raised.value.code == "insufficient_quota"
            second = await given(other, lines(1))
            gate.set()
            for who, batch in ((made, first), (other, second)):
                assert (await ended(who, batch.id)).status == "completed"
            assert (await given(made, lines(1))).status == "validating"


async def test_no_engine_is_asked_while_the_disk_has_no_place_for_its_answer(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with gateway(tmp_path, **quota(), drain_s=0) as gw, upstream("e1", gated(gate, "q0")) as engine:
        await gw.push(routed(engine, "a"))
        async with client(gw) as made:
            batch = await given(made, lines(1))
            await until(lambda: len(engine.seen) == 1)
            file = await made.files.create(file=("in.jsonl", lines(1)), purpose="batch")
    full = quota(free_disk_bytes=1 << 60)
    async with gateway(tmp_path, **full) as gw, upstream("e1", answering()) as engine:
        await gw.push(routed(engine, "a", version=2))
        async with client(gw) as made:
            with pytest.raises(openai.InternalServerError) as raised:
                await made.batches.create(
                    input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
                )
            assert raised.value.status_code == 507
            await gw.until(lambda status: any("the disk" in each for each in status["troubles"]))
        assert engine.seen == []
    async with gateway(tmp_path, **quota()) as gw, upstream("e1", answering()) as engine:
        await gw.push(routed(engine, "a", version=3))
        async with client(gw) as made:
            assert (await ended(made, batch.id)).status == "completed"
            await gw.until(lambda status: status["troubles"] == [])


async def test_a_batch_that_ended_leaves_its_results_and_not_what_it_was_run_by(tmp_path: Path) -> None:
    async with gateway(tmp_path, **quota()) as gw, upstream("e1", answering()) as engine:
        await gw.push(routed(engine, "a"))
        async with client(gw) as made:
            batch = await ended(made, (await given(made, lines(2))).id)
        folder = batches_dir(tmp_path) / "batches" / batch.id
        await until(lambda: not (folder / "journal").exists())
        assert json.loads((folder / "batch.json").read_bytes())["status"] == "completed"


async def test_a_batch_is_a_few_fields(tmp_path: Path) -> None:
    async with gateway(tmp_path, batch_days=1) as gw:
        code, body, _ = await gw.post({"metadata": {"a": "x" * 100_000}}, path="/v1/batches")
    assert (code, json.loads(body)["error"]["code"]) == (413, "request_too_large")
