"""A gateway at twice what its engine sustains, a tenth of it vip: what vips wait, what the others get, what is lost.

    python -m benchmarks.overload [--seconds 30] [--times 2] [--places 40] [--slower 1] [--seed 1] [--json PATH]

Gateway, stub engine and this client are three processes. The engine answers as one at its capacity limit does: a first
token after 500 ms, then 15 more at 20 a second, so that `places` at once sustain `places / 1.25` requests a second.
They are the replica's `concurrency_limit`, as the capacity model gives it. Arrivals are Poisson: first vips alone, as
many as later; then all, 10 % vip, 20 % batch and the rest of three tenants of class normal, of which `c` asks three
times as much as `a` or `b`. TTFT is the client's; what the gateway let a request wait is in its record. Each request
must have one answer and one record; a 503 of the queue is an answer. `--slower` stretches all times, so that what a
busy machine is late by weighs less.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import aiohttp

from benchmarks.doors.publishing import publish
from benchmarks.gateway import stub
from controlplane.domain.base import RevisionId
from controlplane.domain.door.gateway_files import addresses_dir, records_dir
from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.identity import ApiKey, PriorityClass
from controlplane.domain.door.queue_options import QueueOptions
from controlplane.domain.door.routing import (
    Backend,
    GatewayAddress,
    GatewayRecord,
    RevisionRoute,
    RoutingTable,
    ServiceRoute,
)

FIRST_MS, PER_S, TOKENS = 500, 20, 16
LASTS_S = FIRST_MS / 1000 + (TOKENS - 1) / PER_S
MAX_WAIT_S = 5.0

SHARES: Mapping[str, float] = {"gold": 0.1, "a": 0.14, "b": 0.14, "c": 0.42, "night": 0.2}
CLASSES: Mapping[str, PriorityClass] = {"gold": PriorityClass.VIP, "night": PriorityClass.BATCH}
NORMAL = ("a", "b", "c")

_BODY = json.dumps(
    {"model": "stub", "stream": True, "max_tokens": TOKENS, "messages": [{"role": "user", "content": "?"}]}
)


class Asked(NamedTuple):
    """One request: whose, its answer's status, and the time to its first token where it had one."""

    tenant: str
    status: int
    ttft_ms: float | None


def arrivals(
    rate_rps: float, seconds: float, shares: Mapping[str, float], chance: Random
) -> Iterator[tuple[float, str]]:
    """Yield when who asks, in seconds from the beginning."""
    at = chance.expovariate(rate_rps)
    while at < seconds:
        yield at, chance.choices(list(shares), weights=list(shares.values()))[0]
        at += chance.expovariate(rate_rps)


async def offered(url: str, due: Sequence[tuple[float, str]], slower: int) -> Sequence[Asked]:
    """Send each request when it is due, whatever becomes of the others, and wait for all answers."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        began = time.monotonic()
        return await asyncio.gather(*(_ask(session, url, began + at, tenant, slower) for at, tenant in due))


async def _ask(session: aiohttp.ClientSession, url: str, due: float, tenant: str, slower: int) -> Asked:
    await asyncio.sleep(due - time.monotonic())
    paced = {"X-Per-S": str(PER_S // slower), "X-First-Ms": str(FIRST_MS * slower)}
    headers = {"Authorization": f"Bearer {tenant}", "Content-Type": "application/json", **paced}
    async with session.post(f"{url}/v1/chat/completions", data=_BODY, headers=headers) as response:
        if response.status != 200:
            await response.read()
            return Asked(tenant, response.status, None)
        await response.content.readuntil(b"\n\n")
        ttft_ms = (time.monotonic() - due) * 1000
        whole = (await response.read()).endswith(b"data: [DONE]\n\n")
        return Asked(tenant, 200 if whole else 0, ttft_ms)


def table(stub_url: str, places: int, slower: int) -> RoutingTable:
    """Return one service whose only replica takes so many requests at once, and a key for each tenant."""
    backend = Backend(engine_id="stub", url=stub_url)
    revision = RevisionRoute(
        revision=RevisionId("rev"), weight_percent=100, backends=(backend,), concurrency_limit=places
    )
    wait_s = MAX_WAIT_S * slower
    queue = QueueOptions(enabled=True, max_wait_s=wait_s, batch_max_wait_s=4 * wait_s)
    service = ServiceRoute(service="stub", model="stub", revisions=(revision,), options=GatewayOptions(queue=queue))
    return RoutingTable(version=1, services=(service,), api_keys=tuple(_key(tenant) for tenant in SHARES))


def _key(tenant: str) -> ApiKey:
    digest = hashlib.sha256(tenant.encode()).hexdigest()
    return ApiKey(name=tenant, tenant=tenant, sha256=digest, priority=CLASSES.get(tenant))


@asynccontextmanager
async def gateway(
    data_dir: Path, routing: RoutingTable, module: Sequence[str] = ("controlplane.gateway",)
) -> AsyncIterator[str]:
    """Run a gateway of its own until it has drained, so that all records are written. `module` is what runs it."""
    command = [sys.executable, "-m", *module, f"--data-dir={data_dir}", "--port=0", "--admin-port=0"]
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    try:
        await child.stdout.readline()
        address = GatewayAddress.model_validate_json((addresses_dir(data_dir) / "gw-1.json").read_bytes())
        async with aiohttp.ClientSession() as session:
            body = routing.model_dump_json()
            await session.put(f"{address.admin_url}/admin/routing", data=body, raise_for_status=True)
        yield address.url
    finally:
        child.terminate()
        await child.wait()


async def measure(args: argparse.Namespace, data_dir: Path) -> dict[str, Any]:
    """Ask for both loads, and return what became of them."""
    chance, rate_rps = Random(args.seed), _rate_rps(args)
    vips = list(arrivals(rate_rps * SHARES["gold"], args.seconds, {"gold": 1.0}, chance))
    everybody = list(arrivals(rate_rps, args.seconds, SHARES, chance))
    async with stub() as url, gateway(data_dir, table(url, args.places, args.slower)) as door:
        alone = await offered(door, vips, args.slower)
        together = await offered(door, everybody, args.slower)
    return report(args, alone, together, _records(data_dir))


def _rate_rps(args: argparse.Namespace) -> float:
    return float(args.times * args.places / (LASTS_S * args.slower))


def _records(data_dir: Path) -> Sequence[GatewayRecord]:
    lines = [line for path in records_dir(data_dir).glob("*.jsonl") for line in path.read_bytes().splitlines()]
    return [GatewayRecord.model_validate_json(line) for line in lines]


def report(
    args: argparse.Namespace, alone: Sequence[Asked], together: Sequence[Asked], records: Sequence[GatewayRecord]
) -> dict[str, Any]:
    """Return vips' TTFT alone and together, and what each tenant asked and got."""
    before, after = (_ttft([each for each in run if each.tenant == "gold"]) for run in (alone, together))
    served = Counter(each.tenant for each in together if each.status == 200)
    return {
        "command": " ".join(sys.argv),
        "offered_rps": _rate_rps(args),
        "vip_alone_ms": before,
        "vip_together_ms": after,
        "vip_p99_ratio": after["p99"] / before["p99"],
        **_of_records(sorted(records, key=lambda each: each.at), len(alone)),
        "tenants": {tenant: _of_tenant([each for each in together if each.tenant == tenant]) for tenant in SHARES},
        "normal_spread": max(served[each] for each in NORMAL) / max(1, min(served[each] for each in NORMAL)),
        "unanswered": sum(each.status not in (200, 503) for each in (*alone, *together)),
        "asked": len(alone) + len(together),
        "records": len(records),
        "ids": len({each.id for each in records}),
    }


def _of_tenant(asked: Sequence[Asked]) -> dict[str, float]:
    statuses = Counter(each.status for each in asked)
    return {"asked": len(asked), "answered": statuses[200], "refused": statuses[503], **_ttft(asked)}


def _of_records(records: Sequence[GatewayRecord], alone: int) -> dict[str, dict[str, float]]:
    """Return what the gateway itself saw of vips: this client's own lateness on a busy machine is not in it."""
    together = [each for each in records[alone:] if each.tenant == "gold"]
    return {
        "vip_alone_at_the_gateway_ms": _percentiles([each.ttft_ms for each in records[:alone] if each.ttft_ms]),
        "vip_together_at_the_gateway_ms": _percentiles([each.ttft_ms for each in together if each.ttft_ms]),
        "vip_queue_ms": _percentiles([each.queue_ms for each in together]),
    }


def _ttft(asked: Sequence[Asked]) -> dict[str, float]:
    return _percentiles([each.ttft_ms for each in asked if each.ttft_ms is not None])


def _percentiles(found: Sequence[float]) -> dict[str, float]:
    if len(found) < 2:
        return {"p50": float("nan"), "p99": float("nan")}
    cuts = statistics.quantiles(found, n=100, method="inclusive")
    return {"p50": cuts[49], "p99": cuts[98]}


def show(found: Mapping[str, Any]) -> None:
    """Print it."""
    print(f"{found['offered_rps']:.0f} requests a second offered; vip TTFT P50 / P99, ms:")
    for name in (name for name in found if name.startswith("vip_") and name.endswith("_ms")):
        print(f"  {name:32}{found[name]['p50']:8.0f}{found[name]['p99']:8.0f}")
    print(f"  P99 together / alone: {found['vip_p99_ratio']:.2f}")
    print(f"{'tenant':8}{'asked':>8}{'answered':>10}{'refused':>9}{'TTFT P50':>10}{'P99 ms':>9}")
    for name, each in found["tenants"].items():
        counts = f"{each['asked']:8}{each['answered']:10}{each['refused']:9}"
        print(f"{name:8}{counts}{each['p50']:10.0f}{each['p99']:9.0f}")
    print(f"most answered of a normal tenant over fewest: {found['normal_spread']:.2f}")
    kept = f"{found['records']} records, {found['ids']} of them different"
    print(f"{found['asked']} asked, {found['unanswered']} without an answer, {kept}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30, help="of each of the two loads")
    parser.add_argument("--times", type=float, default=2.0, help="of what the engine sustains")
    parser.add_argument("--places", type=int, default=40, help="requests that the engine takes at once")
    parser.add_argument("--slower", type=int, default=1, choices=(1, 2, 4, 5), help="times as slow an engine")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    publish(args, measure, show)


if __name__ == "__main__":
    main()
