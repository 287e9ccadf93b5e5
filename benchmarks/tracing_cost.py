"""What tracing costs the gateway: CPU time per request without a collector, with one request in 20 traced, with all.

    python -m benchmarks.tracing_cost [--rounds 5] [--requests 200] [--tokens 20] [--json PATH]

Three gateways before one stub engine take turns; CPU time of their processes, so that a busy machine matters little.
The collector is a server of the benchmark's own, which takes every span.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks import gateway_overhead
from benchmarks.gateway_overhead import child, give_table, run_streams
from controlplane.domain.door.gateway_files import addresses_dir
from controlplane.domain.door.routing import GatewayAddress
from controlplane.telemetry.tracing import ENDPOINT_VARIABLE, SHARE_VARIABLE
from tests.collector import collector

SHARES: Mapping[str, str | None] = {"off": None, "one in 20": "0.05", "all": "1"}
_EXPORT_S = 6.0  # spans are sent within five seconds: that is part of the cost


class Door(NamedTuple):
    name: str
    url: str
    process: psutil.Process

    def cpu_s(self) -> float:
        user, system, *_ = self.process.cpu_times()
        return user + system


@asynccontextmanager
async def doors(folder: Path, stub_url: str, collector_url: str) -> AsyncIterator[Sequence[Door]]:
    """Run one gateway per share of traced requests."""
    async with AsyncExitStack() as stack:
        yield [
            await _door(stack, folder / name, name, share, stub_url, collector_url) for name, share in SHARES.items()
        ]


async def _door(
    stack: AsyncExitStack, folder: Path, name: str, share: str | None, stub_url: str, collector_url: str
) -> Door:
    os.environ.pop(ENDPOINT_VARIABLE, None)
    if share is not None:
        os.environ |= {ENDPOINT_VARIABLE: collector_url, SHARE_VARIABLE: share}
    command = ("-m", "controlplane.gateway", f"--data-dir={folder}", "--port=0", "--admin-port=0")
    process, _ = await stack.enter_async_context(child(*command))
    address = GatewayAddress.model_validate_json((addresses_dir(folder) / "gw-1.json").read_bytes())
    await give_table(address, stub_url)
    return Door(name, address.url, psutil.Process(process.pid))


async def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    spent: dict[str, list[float]] = {name: [] for name in SHARES}
    with collector() as found:
        async with (
            child(gateway_overhead.__file__, "--stub") as (_, port),
            doors(folder, f"http://127.0.0.1:{port}", found.url) as each,
        ):
            for door in each:
                await run_streams(door.url, 20, 3)
            for _ in range(args.rounds):
                for door in each:
                    spent[door.name].append(await _round(door, args))
        spans = len(found.spans)
    return report(spent, spans, args)


async def _round(door: Door, args: argparse.Namespace) -> float:
    """Return CPU microseconds per request."""
    before = door.cpu_s()
    await run_streams(door.url, args.requests, args.tokens)
    await asyncio.sleep(_EXPORT_S)
    return 1e6 * (door.cpu_s() - before) / int(args.requests)


def report(spent: Mapping[str, Sequence[float]], spans: int, args: argparse.Namespace) -> dict[str, Any]:
    middle = {name: statistics.median(values) for name, values in spent.items()}
    return {
        "command": " ".join(["python -m benchmarks.tracing_cost", *sys.argv[1:]]),
        "at": time.strftime("%Y-%m-%d"),
        "load_average": psutil.getloadavg(),
        "requests_a_round": args.requests,
        "tokens": args.tokens,
        "cpu_us_per_request": middle,
        "ratio_to_off": {name: value / middle["off"] for name, value in middle.items()},
        "rounds": spent,
        "spans_collected": spans,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(args, Path(folder)))
    print(f"load average {found['load_average'][0]:.1f}; {found['spans_collected']} spans")
    for name, value in found["cpu_us_per_request"].items():
        print(f"{name:12}{value:10.0f} µs CPU per request   {found['ratio_to_off'][name]:.3f} x")
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
