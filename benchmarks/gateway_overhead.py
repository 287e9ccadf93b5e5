"""What the gateway adds to a stream, against the same engine asked directly, side by side.

    python benchmarks/gateway_overhead.py [--rounds 5] [--streams 20] [--busy-streams 250] [--json PATH]

A stub engine sends tokens that carry the instant of their sending (CLOCK_MONOTONIC, one for all processes of a host),
so a token's delay is measured one way. Rounds alternate between direct and gateway; medians of the rounds are compared.
The busy round sends `busy-streams` × 20 tokens/s through the gateway and reads its CPU time: what one core carries.
Stub, gateway and client are three processes; the figures are only worth something on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import psutil

from benchmarks.doors.publishing import publish
from controlplane.domain.base import RevisionId
from controlplane.domain.door.gateway_files import addresses_dir
from controlplane.domain.door.routing import Backend, GatewayAddress, RevisionRoute, RoutingTable, ServiceRoute

TOKENS_PER_S = 20
_MARK = b'"sent_ns": '


class Stream(NamedTuple):
    """What one stream saw: time to first token and each token's delay from engine to client."""

    ttft_ms: float
    delays_us: Sequence[float]


@dataclass(frozen=True)
class Round:
    """Medians over all streams and tokens of one run."""

    target: str
    ttft_ms: float
    token_delay_us: float
    token_delay_p99_us: float


@dataclass(frozen=True)
class Busy:
    """The gateway under many streams at once."""

    streams: int
    chunks: int
    chunks_per_s: float
    cpu_us_per_chunk: float
    chunks_per_s_per_core: float
    token_delay_p50_us: float
    token_delay_p99_us: float


async def serve_stub() -> None:
    """Answer every POST with `tokens` events, 20 per second; print the port."""
    server = await asyncio.start_server(_stub_answer, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


async def _stub_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while head := await _head(reader):
        length = next(
            int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-length")
        )
        tokens = json.loads(await reader.readexactly(length))["max_tokens"]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        due = time.monotonic()
        for _ in range(tokens):
            event = b'data: {"choices": [{"index": 0, "delta": {"content": " token"}}], "sent_ns": %d}\n\n'
            _chunk(writer, event % time.monotonic_ns())
            due += 1 / TOKENS_PER_S
            await asyncio.sleep(due - time.monotonic())
        _chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
    writer.close()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))


async def one_stream(session: aiohttp.ClientSession, url: str, tokens: int) -> Stream:
    """Ask for one stream and time it."""
    body = {"model": "stub", "stream": True, "max_tokens": tokens, "messages": []}
    began = time.monotonic()
    ttft_ms, delays = 0.0, []
    async with session.post(f"{url}/v1/chat/completions", json=body) as response:
        async for line in response.content:
            now_ns = time.monotonic_ns()
            place = line.find(_MARK)
            if place >= 0:
                delays.append((now_ns - int(line[place + len(_MARK) : -2])) / 1000)
                ttft_ms = ttft_ms or (now_ns / 1e9 - began) * 1000
    if len(delays) != tokens:
        raise RuntimeError(f"{url} sent {len(delays)} of {tokens} tokens")
    return Stream(ttft_ms, delays)


async def run_streams(url: str, streams: int, tokens: int) -> Sequence[Stream]:
    """Run streams at once, their starts spread over one token interval so that chunks do not come in one wave."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def later(number: int) -> Stream:
            await asyncio.sleep(number / streams / TOKENS_PER_S)
            return await one_stream(session, url, tokens)

        return await asyncio.gather(*(later(number) for number in range(streams)))


@asynccontextmanager
async def child(*command: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run a Python child and yield it with the first line it prints."""
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield process, (await process.stdout.readline()).decode().strip()
    finally:
        process.terminate()
        await process.wait()


async def give_table(address: GatewayAddress, stub_url: str) -> None:
    backends = (Backend(engine_id="stub", url=stub_url),)
    revisions = (RevisionRoute(revision=RevisionId("rev"), weight_percent=100, backends=backends),)
    table = RoutingTable(version=1, services=(ServiceRoute(service="stub", model="stub", revisions=revisions),))
    async with aiohttp.ClientSession() as session:
        await session.put(f"{address.admin_url}/admin/routing", data=table.model_dump_json(), raise_for_status=True)


async def measure(args: argparse.Namespace, data_dir: Path) -> dict[str, Any]:
    gateway = ("-m", "controlplane.gateway", f"--data-dir={data_dir}", "--port=0", "--admin-port=0")
    async with child(__file__, "--stub") as (_, port), child(*gateway) as (process, _):
        stub_url = f"http://127.0.0.1:{port}"
        address = GatewayAddress.model_validate_json((addresses_dir(data_dir) / "gw-1.json").read_bytes())
        await give_table(address, stub_url)
        targets = {"direct": stub_url, "gateway": address.url}
        for url in targets.values():
            await run_streams(url, args.streams, 5)  # warm connections
        rounds = [
            summarize(target, await run_streams(targets[target], args.streams, args.tokens))
            for number in range(args.rounds)
            for target in sorted(targets, reverse=number % 2 == 1)
        ]
        return report(rounds, await busy_round(address.url, process.pid, args), args)


async def busy_round(url: str, pid: int, args: argparse.Namespace) -> Busy:
    gateway = psutil.Process(pid)
    before, began = gateway.cpu_times(), time.monotonic()
    streams = await run_streams(url, args.busy_streams, args.tokens)
    elapsed_s, after = time.monotonic() - began, gateway.cpu_times()
    cpu_s = (after.user + after.system) - (before.user + before.system)
    delays = [delay for stream in streams for delay in stream.delays_us]
    return Busy(
        streams=args.busy_streams,
        chunks=len(delays),
        chunks_per_s=len(delays) / elapsed_s,
        cpu_us_per_chunk=cpu_s / len(delays) * 1e6,
        chunks_per_s_per_core=len(delays) / cpu_s,
        token_delay_p50_us=statistics.median(delays),
        token_delay_p99_us=statistics.quantiles(delays, n=100)[98],
    )


def summarize(target: str, streams: Sequence[Stream]) -> Round:
    delays = [delay for stream in streams for delay in stream.delays_us]
    return Round(
        target=target,
        ttft_ms=statistics.median(stream.ttft_ms for stream in streams),
        token_delay_us=statistics.median(delays),
        token_delay_p99_us=statistics.quantiles(delays, n=100)[98],
    )


def report(rounds: Sequence[Round], busy: Busy, args: argparse.Namespace) -> dict[str, Any]:
    """Return the figures with everything needed to judge and repeat them."""
    middle = {
        field: {t: statistics.median(getattr(r, field) for r in rounds if r.target == t) for t in ("direct", "gateway")}
        for field in ("ttft_ms", "token_delay_us", "token_delay_p99_us")
    }
    return {
        "command": " ".join(sys.argv),
        "machine": f"{platform.processor() or platform.machine()}, {psutil.cpu_count()} CPUs, {platform.platform()}",
        "load_average": psutil.getloadavg(),
        "streams": args.streams,
        "tokens": args.tokens,
        "added": {field: value["gateway"] - value["direct"] for field, value in middle.items()},
        "medians": middle,
        "rounds": [asdict(found) for found in rounds],
        "busy": asdict(busy),
    }


def show(found: dict[str, Any]) -> None:
    print(f"{found['machine']}; load average {found['load_average'][0]:.1f}")
    print(f"{'':20}{'direct':>12}{'gateway':>12}{'added':>12}")
    for field, value in found["medians"].items():
        print(f"{field:20}{value['direct']:12.2f}{value['gateway']:12.2f}{found['added'][field]:12.2f}")
    busy = found["busy"]
    print(f"busy: {busy['streams']} streams, {busy['chunks_per_s']:.0f} chunks/s carried,", end=" ")
    print(
        f"{busy['cpu_us_per_chunk']:.0f} µs CPU per chunk = {busy['chunks_per_s_per_core']:.0f} chunks/s on one core,",
        end=" ",
    )
    print(f"delay P50 {busy['token_delay_p50_us'] / 1000:.1f} ms, P99 {busy['token_delay_p99_us'] / 1000:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--busy-streams", type=int, default=250)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--stub", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stub:
        asyncio.run(serve_stub())
        return
    publish(args, measure, show)


if __name__ == "__main__":
    main()
