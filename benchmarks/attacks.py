"""What hostile requests do to the others: the slowest `/health` while they arrive, and what becomes of them.

    python -m benchmarks.attacks [--times 3] [--loris 500] [--json PATH]

Gateway, stub engine, prober and attacker are four processes. Each attack is made `times` times, one after the other,
while `/health` is asked every 10 ms: large bodies (20 MiB of token ids, a picture of 24 MiB, a gzip of 400 MiB), bombs
of headers, half heads that never end, and requests that two servers would read apart. Whatever is refused must be
refused by name (4xx); `/health` is to be no more than 50 ms slower than at rest. No chance is involved.

On a busy machine `/health` waits for its core. What the gateway itself did to it is `held`: the CPU time of the longest
callback of its event loop, and of the longest step of a thread that may have held Python's lock (`doors.watched`).
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import re
import statistics
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.doors.publishing import publish
from benchmarks.doors.watched import LEAST_MS, Held
from benchmarks.gateway import stub
from benchmarks.overload import gateway, table

KEY = "a"  # a tenant of the overload's table
_POST = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n".encode()
_SMUGGLED = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
_CHUNKED = _POST + b"Transfer-Encoding: chunked\r\n"
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_MIB = 1 << 20
_REST_S = 3.0
_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Target:
    """The gateway under attack."""

    url: str

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


Attack = Callable[[Target], Awaitable[str]]
"""Returns what became of it: a status, or that the connection was closed."""


def attacks(loris: int) -> Mapping[str, Attack]:
    """Return all of them by name. Bodies are made before anything is measured."""
    ids = json.dumps({"model": "stub", "prompt": [1] * (20 * _MIB // 3), "max_tokens": 1}).encode()
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * (24 * _MIB)}}
    seen = json.dumps({"model": "stub", "messages": [{"role": "user", "content": [picture]}], "max_tokens": 1}).encode()
    return {
        "20 MiB of token ids": _body(ids, "/v1/completions"),
        "a picture of 24 MiB": _body(seen, "/v1/chat/completions"),
        "gzip of 400 MiB": _body(gzip.compress(bytes(400 * _MIB), 6), "/v1/completions", "gzip"),
        "50,000 gzip members": _body(gzip.compress(b"") * 50_000, "/v1/completions", "gzip"),
        "1,000 headers of 8 kB": _raw(
            _POST + b"".join(b"X-%d: %b\r\n" % (n, b"a" * 8000) for n in range(1000)) + b"\r\n"
        ),
        "a header of 10 MB": _raw(_POST + b"X: " + b"a" * 10_000_000 + b"\r\n\r\n"),
        "two lengths": _raw(_POST + b"Content-Length: 0\r\nContent-Length: 2\r\n\r\n" + _SMUGGLED),
        "a length and chunks": _raw(_CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n" + _SMUGGLED),
        "a chunk of -1": _raw(_CHUNKED + b"\r\n-1\r\n\r\n" + _SMUGGLED),
        f"{loris} half heads": _half_heads(loris),
    }


def _body(body: bytes, path: str, encoding: str = "identity") -> Attack:
    async def send(target: Target) -> str:
        headers = {"Authorization": f"Bearer {KEY}", "Content-Encoding": encoding, "Content-Type": "application/json"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(target.url + path, data=body, headers=headers) as response,
        ):
            await response.read()
            return str(response.status)

    return send


def _raw(sent: bytes) -> Attack:
    async def send(target: Target) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        writer.write(sent)
        answer = await _rest(reader)
        writer.close()
        return _statuses(answer)

    return send


def _half_heads(connections: int) -> Attack:
    async def send(target: Target) -> str:
        opened = [await asyncio.open_connection("127.0.0.1", target.port) for _ in range(connections)]
        for _, writer in opened:
            writer.write(_POST)
        answers = await asyncio.gather(*(_rest(reader) for reader, _ in opened))
        for _, writer in opened:
            writer.close()
        return ", ".join(f"{count} x {status}" for status, count in Counter(map(_statuses, answers)).items())

    return send


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """Return what came until the gateway closed the connection, or for half a minute."""
    came = b""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while part := await reader.read(_MIB):
                came += part
    except (ConnectionError, TimeoutError):
        return came
    return came


def _statuses(answer: bytes) -> str:
    """Return the status of each answer on a connection: one for one request, else it was read as two."""
    return " and ".join(each.decode() for each in _STATUS.findall(answer)) or "closed"


@asynccontextmanager
async def probed(target: Target, took_ms: list[float]) -> AsyncIterator[None]:
    """Ask `/health` meanwhile."""
    command = (sys.executable, "-m", "benchmarks.doors.probing", str(target.port))
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert child.stdout is not None
    await child.stdout.readline()
    yield
    out, _ = await child.communicate(b"")
    took_ms += json.loads(out)


async def measure(args: argparse.Namespace, data_dir: Path) -> dict[str, Any]:
    """Make each attack in its turn, and nothing first."""
    made = attacks(args.loris)
    holds = data_dir / "holds.jsonl"
    watched = ("benchmarks.doors.watched", str(holds))
    async with stub() as url, gateway(data_dir, table(url, 1000, 1), watched) as door:
        target, found = Target(door), {}
        found["at rest"] = await _measured(target, lambda _: _rested(), 1, holds)
        for name, attack in made.items():
            print(name, file=sys.stderr)
            found[name] = await _measured(target, attack, 1 if "half" in name else args.times, holds)
    return {"command": " ".join(sys.argv), "attacks": found}


async def _measured(target: Target, attack: Attack, times: int, holds: Path) -> dict[str, Any]:
    took_ms: list[float] = []
    before = len(held(holds))
    async with probed(target, took_ms):
        became = [await attack(target) for _ in range(times)]
    return {
        "became": sorted(set(became)),
        **_told(took_ms),
        "held": {each.where: each._asdict() for each in longest(held(holds)[before:])},
    }


def held(path: Path) -> Sequence[Held]:
    """Return what a watched gateway wrote down so far."""
    return [Held(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def longest(holds: Sequence[Held]) -> Sequence[Held]:
    """Return the longest of the loop and of the threads, as far as there are any."""
    return list({each.where: each for each in sorted(holds, key=lambda each: each.cpu_ms)}.values())


async def _rested() -> str:
    await asyncio.sleep(_REST_S)
    return ""


def _told(took_ms: Sequence[float]) -> dict[str, float]:
    return {"asked": len(took_ms), "p50_ms": statistics.median(took_ms), "slowest_ms": max(took_ms)}


def show(found: Mapping[str, Any]) -> None:
    """Print a line per attack."""
    print(f"{'':26}{'/health':>8}{'P50 ms':>9}{'slowest':>9}{'held CPU ms: loop':>19}{'threads':>9}  became")
    for name, each in found["attacks"].items():
        times = f"{each['asked']:8}{each['p50_ms']:9.1f}{each['slowest_ms']:9.1f}"
        cpu = "".join(f"{_cpu_ms(each['held'], where):>{width}}" for where, width in (("loop", 19), ("thread", 9)))
        print(f"{name:26}{times}{cpu}  {'; '.join(each['became'])}")


def _cpu_ms(found: Mapping[str, Mapping[str, Any]], where: str) -> str:
    return f"{found[where]['cpu_ms']:.1f}" if where in found else f"< {LEAST_MS:g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=3, help="how often each is made")
    parser.add_argument("--loris", type=int, default=500, help="half heads at once, each for the 15 s it is given")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    publish(args, measure, show)


if __name__ == "__main__":
    main()
