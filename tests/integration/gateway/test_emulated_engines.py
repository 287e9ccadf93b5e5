"""The gateway in front of emulated engines: counts are theirs, a killed one breaks only its own streams."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from controlplane.domain.base import RevisionId
from controlplane.domain.door.routing import Backend, RevisionRoute
from tests.integration.gateway.harness import CHAT, MODEL, Gateway, chat, gateway

pytestmark = pytest.mark.slow


@dataclass
class Engine:
    name: str
    url: str
    process: asyncio.subprocess.Process

    async def metric(self, name: str) -> float:
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/metrics") as response:
            found = re.search(rf"^{name}{{[^}}]*}} (\S+)$", await response.text(), re.MULTILINE)
        assert found is not None, name
        return float(found[1])


@asynccontextmanager
async def emulated(name: str, *options: str) -> AsyncIterator[Engine]:
    """Run one emulated engine on a free port."""
    command = ["-m", "controlplane.emulator.main", "llama-8b", f"--served-model-name={MODEL}", "--port=0"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        "--host=127.0.0.1",
        "--emulator-startup-s=0.1",
        *options,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Engine(name, await _url(process), process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _url(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    seen = b""
    async with asyncio.timeout(240):
        while line := await process.stderr.readline():
            seen += line
            if found := re.search(rb"running on (http://\S+)", line):
                return found[1].decode()
    raise AssertionError(seen.decode())


def backend(*engines: Engine, revision: str = "rev-a", weight: int = 100) -> RevisionRoute:
    backends = tuple(Backend(engine_id=engine.name, url=engine.url) for engine in engines)
    return RevisionRoute(revision=RevisionId(revision), weight_percent=weight, backends=backends)


def asked(tokens: int, **fields: Any) -> dict[str, Any]:
    return chat(max_tokens=tokens, ignore_eos=True, **fields)


async def test_token_counts_are_the_engines_own_with_and_without_usage(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, emulated("e1") as engine:
        await gw.route(backend(engine))
        await gw.post(asked(7))
        await gw.post(asked(7, stream_options={"include_usage": True}))
        await gw.post(asked(7, stream=False))
        await gw.post({"model": MODEL, "prompt": [1] * 20, "max_tokens": 7, "stream": True}, path="/v1/completions")
        records = await gw.records(4)
    assert [record.output_tokens for record in records] == [7, 7, 7, 7]
    assert [record.prompt_tokens is None for record in records] == [True, False, False, False]  # ids count themselves
    assert all(record.ok and record.status == 200 for record in records)


async def test_a_killed_engine_breaks_its_own_streams_with_an_error_event_and_no_others(tmp_path: Path) -> None:
    slow = "--emulator-time-lapse=0.2"  # no stream is over before the last has begun and one engine is killed
    async with gateway(tmp_path) as gw, emulated("e1", slow) as lost, emulated("e2", slow) as kept:
        await gw.route(backend(lost, kept))
        streams = [asyncio.create_task(_begun(gw, asked(200))) for _ in range(6)]
        begun = [await stream for stream in streams]
        lost.process.kill()
        bodies = [await response.read() for response in begun]
        after = [await gw.post(asked(2)) for _ in range(10)]
        records = await gw.records(16)
    errors = [body for body in bodies if b'"error"' in body]
    assert len(errors) == 3
    assert all(json.loads(body.split(b"data: ")[-1])["error"]["code"] == "truncated" for body in errors)
    assert all(body.endswith(b"data: [DONE]\n\n") for body in bodies if body not in errors)
    assert all(status == 200 and b'"error"' not in body for status, body, _ in after)
    assert {record.engine_id for record in records if record.truncated} == {"e1"}


async def test_a_client_that_hangs_up_stops_the_engines_work(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, emulated("e1") as engine:
        await gw.route(backend(engine))
        response = await _begun(gw, asked(100_000))
        response.close()
        async with asyncio.timeout(240):
            while await engine.metric("vllm:num_requests_running") > 0:  # noqa: ASYNC110  # another process
                await asyncio.sleep(0.05)
        (record,) = await gw.records()
    assert record.client_gone


async def test_openais_client_streams_from_an_emulated_engine_and_finds_its_model(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, emulated("e1") as engine:
        await gw.route(backend(engine))
        async with openai.AsyncOpenAI(base_url=f"{gw.url}/v1", api_key="none", max_retries=0) as client:
            model = await client.models.retrieve(MODEL)
            stream = await client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": "hi"}],
                max_tokens=5,
                stream=True,
                stream_options={"include_usage": True},
            )
            usage = [chunk.usage async for chunk in stream if chunk.usage is not None]
    assert model.model_dump()["max_model_len"] > 0
    assert usage[-1].completion_tokens == 5


async def _begun(gw: Gateway, body: dict[str, Any]) -> aiohttp.ClientResponse:
    """Ask and wait for the first piece of the answer."""
    response = await gw.session.post(gw.url + CHAT, json=body)
    await response.content.readany()
    return response
