"""Live traffic through the gateway becomes a trace, and the trace replayed through it shares as much as the traffic."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from controlplane.cli.trace import app as trace_app
from controlplane.domain.workload import ArrivalProcess, Arrivals, Lengths, SyntheticWorkload, TraceWorkload, Workload
from loadtests.loadtest import LoadTest, run_load_test
from loadtests.report.describe import describe_trace
from loadtests.send.plan import Api
from loadtests.send.runner import Generator
from loadtests.send.traces import Trace, load_trace
from tests.integration.gateway.harness import MODEL, Gateway, gateway, read_records
from tests.integration.gateway.test_emulated_engines import backend, emulated

pytestmark = pytest.mark.slow

REQUESTS, SECONDS = 60, 3.0
LENGTHS = {"prompt_tokens": Lengths(mean=600, cv=0.3, min=200, max=1500), "output_tokens": Lengths(mean=3)}
TRAFFIC = SyntheticWorkload(**LENGTHS, shared_prefix_share=0.5, arrivals=Arrivals(process=ArrivalProcess.CONSTANT))
TRUE_SHARE = 0.5 * (REQUESTS - 1) / REQUESTS  # the first has nothing to share with
HALF_A_BLOCK = 8 / 600  # of a shared beginning, its last piece fills no block
SECRETS = ("secret", "alice")


@pytest.mark.parametrize("api", [Api.COMPLETIONS, Api.CHAT])
async def test_a_replayed_recording_shares_as_much_as_what_was_recorded(tmp_path: Path, api: Api) -> None:
    live, again = tmp_path / "live", tmp_path / "again"
    recorded = await _recorded(live, TRAFFIC, api)
    replay = TraceWorkload(trace=str(live / "traces" / "t.jsonl"), arrivals=Arrivals(process=ArrivalProcess.TRACE))
    replayed = await _recorded(again, replay, api)
    share = describe_trace(recorded).prefix_share
    assert share == pytest.approx(TRUE_SHARE - HALF_A_BLOCK, abs=0.015)
    assert describe_trace(replayed).prefix_share == pytest.approx(share, abs=0.02)
    if api is Api.COMPLETIONS:  # ids have exact lengths, text without a tokenizer only about
        assert sorted(replayed.prompt_tokens) == sorted(recorded.prompt_tokens)


async def test_a_session_is_one_in_the_trace_and_no_text_is_anywhere(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gw, emulated("e1") as engine:
        await gw.route(backend(engine))
        for user in ("alice", "bob", "alice", None):
            message = {"role": "user", "content": "secret " * 100}
            body = {"model": MODEL, "messages": [message], "max_tokens": 2} | ({"user": user} if user else {})
            await gw.post(body)
        await gw.records(4)
    trace = _record(tmp_path)
    assert trace.session is not None
    assert trace.session.tolist() == [0, 1, 0, -1]
    assert not re.search("|".join(SECRETS), _everything_under(tmp_path))


async def _recorded(data_dir: Path, workload: Workload, api: Api) -> Trace:
    async with gateway(data_dir) as gw, emulated("e1") as engine:
        await gw.route(backend(engine))
        await asyncio.to_thread(_send, gw, workload, api, data_dir)
        await gw.records(REQUESTS)
    assert {record.error for record in read_records(data_dir)} == {None}
    return _record(data_dir)


def _everything_under(folder: Path) -> str:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file()).decode(errors="replace")


def _send(gw: Gateway, workload: Workload, api: Api, data_dir: Path) -> None:
    test = LoadTest(workload, REQUESTS / SECONDS, url=gw.url, model=MODEL, duration_s=SECONDS, api=api, salt=7)
    with Generator() as generator:
        run_load_test(test, generator, out_dir=data_dir / "load")


def _record(data_dir: Path) -> Trace:
    done = CliRunner().invoke(trace_app, ["record", "chat", "--name", "t", "--data", str(data_dir)])
    assert done.exit_code == 0, done.output
    return load_trace(str(data_dir / "traces" / "t.jsonl"))
