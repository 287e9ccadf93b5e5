"""The gateway as a process: it ends gracefully, survives kill -9, and serves on without a control plane."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import openai
import pytest

from controlplane.domain.door.gateway_files import addresses_dir, batches_dir, table_path
from controlplane.domain.door.routing import GatewayAddress, RoutingTable
from controlplane.domain.errors import Conflict
from tests.integration.gateway.harness import CHAT, chat, gateway, read_records, revision, table
from tests.integration.gateway.test_batches import answering, ended, given, lines, results, until
from tests.integration.gateway.upstream import DONE, FINISH, held, stream_bytes, token_event, upstream

ROOT = Path(__file__).parents[3]


@asynccontextmanager
async def process(data_dir: Path, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a gateway as users do; it is killed at the end if the test has not ended it."""
    command = ["-m", "controlplane.gateway", f"--data-dir={data_dir}", "--port=0", "--admin-port=0", *options]
    pipe = asyncio.subprocess.PIPE
    started = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT, stdout=pipe, stderr=pipe)
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def serving(started: asyncio.subprocess.Process, data_dir: Path) -> GatewayAddress:
    """Wait for the line that says where it serves, and read the file it wrote before."""
    assert started.stdout is not None
    line = await asyncio.wait_for(started.stdout.readline(), 240)
    assert line.startswith(b"gateway gw-1 serves on http://127.0.0.1:"), line
    return GatewayAddress.model_validate_json((addresses_dir(data_dir) / "gw-1.json").read_bytes())


async def give(address: GatewayAddress, routing: RoutingTable) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.put(f"{address.admin_url}/admin/routing", data=routing.model_dump_json()) as response,
    ):
        assert response.status == 200, await response.text()


async def ask(address: GatewayAddress) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session:
        return await _post(session, address.url)


@pytest.mark.slow
async def test_sigterm_finishes_what_is_in_flight_and_exits_zero(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with process(tmp_path) as started, upstream("e1", held(gate, token_event("one"))) as engine:
        address = await serving(started, tmp_path)
        await give(address, table(revision("rev-a", 100, engine)))
        async with aiohttp.ClientSession() as session, session.post(address.url + CHAT, json=chat()) as response:
            await response.content.readany()
            started.send_signal(signal.SIGTERM)
            await _refuses_connections(address)
            gate.set()
            assert await response.read() == FINISH + DONE
        assert await asyncio.wait_for(started.wait(), 240) == 0
    (record,) = read_records(tmp_path)
    assert record.ok
    assert list(addresses_dir(tmp_path).glob("*.json")) == []


@pytest.mark.slow
async def test_after_kill_9_it_serves_by_the_last_table_without_a_control_plane(tmp_path: Path) -> None:
    async with upstream("e1") as engine:
        async with process(tmp_path) as started:
            address = await serving(started, tmp_path)
            await give(address, table(revision("rev-a", 100, engine), version=7))
            os.kill(started.pid, signal.SIGKILL)
            await started.wait()
        async with process(tmp_path) as again:
            address = await serving(again, tmp_path)
            assert await ask(address) == (200, stream_bytes(3))


@pytest.mark.slow
async def test_a_port_in_use_is_one_clear_message(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, message = await _refusal(tmp_path, f"--port={port}")
    allowed = "another port, or 0 for any free one"
    assert code == 2
    assert message == f"error: cannot listen on 127.0.0.1:{port}: the port is in use (allowed: {allowed})\n"


@pytest.mark.slow
async def test_a_data_folder_that_cannot_be_written_is_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    code, message = await _refusal(tmp_path / "file")
    assert code == 2
    assert message.startswith(f"error: cannot write to {tmp_path / 'file'}")
    assert message.count("\n") == 1


async def test_a_drain_whose_time_is_over_ends_streams_with_an_error_event(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(upstream("e1", held(asyncio.Event(), token_event("one"))))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        async with gateway(tmp_path, drain_s=0.1) as gw:
            await gw.route(revision("rev-a", 100, engine))
            response = await stack.enter_async_context(session.post(gw.url + CHAT, json=chat()))
            await response.content.readany()
        body = await response.read()
    assert json.loads(body.removeprefix(b"data: "))["error"]["code"] == "gateway_stopped"
    (record,) = read_records(tmp_path)
    assert (record.truncated, record.error, record.client_gone) == (True, "gateway_stopped", False)


async def test_a_request_still_waiting_when_the_drain_is_over_gets_an_answer(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(upstream("e1", held(asyncio.Event())))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        async with gateway(tmp_path, drain_s=0.1) as gw:
            await gw.route(revision("rev-a", 100, engine))
            asking = asyncio.create_task(_post(session, gw.url))
            await gw.until(lambda status: bool(status["in_flight"] and engine.seen))
        code, body = await asking
    assert (code, json.loads(body)["error"]["code"]) == (503, "gateway_stopped")


async def test_the_admin_port_can_ask_for_a_drain(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw:
        async with gw.session.post(f"{gw.running.address.admin_url}/admin/drain") as response:
            assert response.status == 202
        assert gw.running.drain.requested.is_set()
        async with gw.session.get(gw.url + "/ready") as ready:
            assert ready.status == 503


async def test_a_broken_saved_table_is_reported_and_ignored(tmp_path: Path) -> None:
    saved = table_path(tmp_path, "gw-1")
    saved.parent.mkdir(parents=True)
    saved.write_bytes(b'{"version": 3, "serv')
    async with gateway(tmp_path) as gw, upstream("e1") as engine:
        assert "is broken" in (await gw.status())["problem"]
        await gw.route(revision("rev-a", 100, engine))
        assert (await gw.status())["problem"] is None
    assert RoutingTable.model_validate_json(saved.read_bytes()).version == 1


async def test_a_second_gateway_of_the_same_name_is_refused(tmp_path: Path) -> None:
    async with gateway(tmp_path), gateway(tmp_path, name="gw-2"):
        with pytest.raises(Conflict, match="a gateway named gw-1 already runs"):
            async with gateway(tmp_path):
                pass
    async with gateway(tmp_path):
        pass


async def test_the_saved_table_is_for_its_owner_only(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw:
        await gw.route(keys={"team": "s3cret"})
    assert table_path(tmp_path, "gw-1").stat().st_mode & 0o077 == 0


async def _post(session: aiohttp.ClientSession, url: str) -> tuple[int, bytes]:
    async with session.post(url + CHAT, json=chat()) as response:
        return response.status, await response.read()


async def _refusal(data_dir: Path, *options: str) -> tuple[int | None, str]:
    async with process(data_dir, *options) as started:
        _, errors = await asyncio.wait_for(started.communicate(), 240)
        return started.returncode, errors.decode()


async def _refuses_connections(address: GatewayAddress) -> None:
    port = int(address.url.rpartition(":")[2])
    async with asyncio.timeout(240):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                return
            writer.close()
            await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_kill_9_in_the_middle_of_a_batch_loses_no_line_and_repeats_none(tmp_path: Path) -> None:
    late = {"q3", "q5"}
    async with upstream("e1", answering(lambda question: question in late)) as engine:
        async with process(tmp_path, "--batch-days=1") as first:
            address = await serving(first, tmp_path)
            await give(address, table(revision("rev-a", 100, engine)))
            async with openai.AsyncOpenAI(base_url=f"{address.url}/v1", api_key="none") as made:
                batch = await given(made, lines(12))
            state = batches_dir(tmp_path) / "batches" / batch.id / "batch.json"
            await until(lambda: json.loads(state.read_bytes())["completed"] == 10)
            first.kill()
            await first.wait()
        late.clear()
        async with process(tmp_path, "--batch-days=1") as second:
            address = await serving(second, tmp_path)
            async with openai.AsyncOpenAI(base_url=f"{address.url}/v1", api_key="none") as made:
                batch = await ended(made, batch.id)
                found = await results(made, batch.output_file_id)
    assert batch.request_counts.model_dump() == {"total": 12, "completed": 12, "failed": 0}
    said = {each["custom_id"]: each["response"]["body"]["choices"][0]["message"]["content"] for each in found}
    assert (len(found), said) == (12, {f"c{number}": f"a-q{number}" for number in range(12)})
