"""The other clients of the benchmark, each in its own pinned process that prints one JSON line.

`python -m benchmarks.loadgen_clients NAME URL RATE SECONDS TOKENS`. Poisson arrivals.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

WARMUP_S = 2.0


@dataclass(frozen=True)
class Outcome:
    """What a client measured (P99, ms), its CPU over the whole run, and how many requests it left out as warm-up."""

    ttft_ms: float | None
    tpot_ms: float | None
    e2e_ms: float | None
    cpu_s: float
    tokens: int
    requests: int
    failed: int
    skipped: int
    note: str = ""


@dataclass
class Timing:
    """One request: seconds from its start as the client sees it."""

    ttft_s: float = 0.0
    e2e_s: float = 0.0
    tokens: int = 0
    ok: bool = False


def run_client(
    name: str, url: str, *, rate: float, seconds: float, tokens: int, cores: set[int], scratch: Path
) -> Outcome:
    """Run a client of this file as a pinned child and return what it says."""
    command = ["taskset", "-c", ",".join(map(str, sorted(cores))), sys.executable]
    if name == "locust-fasthttp":
        from benchmarks.loadgen_stock_locust import command_line

        command += command_line(url, rate=rate, seconds=seconds, tokens=tokens)
    else:
        command += ["-m", "benchmarks.loadgen_clients", name, url, str(rate), str(seconds), str(tokens)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        return Outcome(None, None, None, 0.0, 0, 0, 0, 0, (done.stderr.strip().splitlines() or ["no answer"])[-1][:100])
    return Outcome(**json.loads(lines[-1]))


def cpu_s() -> float:
    """Return the CPU this process used so far, user and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def summarise(timings: list[Timing], skipped: int, tokens: int, *, cpu_before_s: float) -> Outcome:
    """Make the outcome of all timings; the first `skipped` are warm-up. Start-up and imports are no part of the CPU."""
    measured = timings[skipped:]
    good = [each for each in measured if each.ok]
    return Outcome(
        ttft_ms=_p99([each.ttft_s for each in good]),
        tpot_ms=_p99([(each.e2e_s - each.ttft_s) / (tokens - 1) for each in good]),
        e2e_ms=_p99([each.e2e_s for each in good]),
        cpu_s=cpu_s() - cpu_before_s,
        tokens=len(timings) * tokens,
        requests=len(measured),
        failed=len(measured) - len(good),
        skipped=skipped,
    )


def _p99(values: list[float]) -> float | None:
    """Linear between order statistics, as numpy's default."""
    if not values:
        return None
    ordered = sorted(values)
    place = 0.99 * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return 1e3 * (ordered[below] + (place - below) * (ordered[above] - ordered[below]))


def arrivals(rate: float, seconds: float) -> list[float]:
    """Poisson arrival instants over warm-up and measured time."""
    chance = random.Random(int(rate))
    instants, at = [], 0.0
    while (at := at + chance.expovariate(rate)) < WARMUP_S + seconds:
        instants.append(at)
    return instants


def payload(tokens: int, *, as_ids: bool) -> dict[str, Any]:
    prompt: Any = list(range(1000, 1064)) if as_ids else "word " * 64
    return {
        "model": "truth",
        "prompt": prompt,
        "temperature": 0.0,
        "max_tokens": tokens,
        "stream": True,
        "ignore_eos": True,
        "stream_options": {"include_usage": True},
    }


async def _drive(
    request: Callable[[Any], Awaitable[Timing]], session: Any, rate: float, seconds: float
) -> list[Timing]:
    """Start each request at its instant, as vLLM's bench does: one task per request."""
    tasks: list[asyncio.Task[Timing]] = []
    start = time.perf_counter()
    for at in arrivals(rate, seconds):
        await asyncio.sleep(max(0.0, start + at - time.perf_counter()))
        tasks.append(asyncio.create_task(request(session)))  # type: ignore[arg-type]
    return list(await asyncio.gather(*tasks))


async def _vllm_bench(url: str, rate: float, seconds: float, tokens: int) -> list[Timing]:
    """vLLM's `async_request_openai_completions` (vllm/benchmarks/lib/endpoint_request_func.py, 0.11 and later).

    Rewritten after it: one shared aiohttp session, `content.iter_any()`, a handler that splits messages at blank lines,
    `json.loads` of every chunk, perf_counter stamps after parsing, ITL appended per chunk.
    """
    import aiohttp

    async def one(session: aiohttp.ClientSession) -> Timing:
        timing, itl, generated = Timing(), [], ""
        buffer = ""
        first = False
        started = latest = time.perf_counter()
        headers = {"Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY')}"}
        async with session.post(
            f"{url}/v1/completions", json=payload(tokens, as_ids=False), headers=headers
        ) as response:
            if response.status != 200:
                return timing
            async for chunk_bytes in response.content.iter_any():
                if not (chunk_bytes := chunk_bytes.strip()):
                    continue
                buffer += chunk_bytes.decode("utf-8")
                messages, buffer = _messages(buffer)
                for message in messages:
                    chunk = message.removeprefix("data: ")
                    if message.startswith(":") or chunk == "[DONE]":
                        continue
                    data = json.loads(chunk)
                    if choices := data.get("choices"):
                        text = choices[0].get("text")
                        now = time.perf_counter()
                        if not first:
                            first = True
                            timing.ttft_s = now - started
                        else:
                            itl.append(now - latest)
                        latest = now
                        generated += text or ""
                    elif usage := data.get("usage"):
                        timing.tokens = usage.get("completion_tokens")
        timing.ok, timing.e2e_s = first, latest - started
        return timing

    connector = aiohttp.TCPConnector(limit=0, limit_per_host=0, ttl_dns_cache=300, keepalive_timeout=60)
    timeout = aiohttp.ClientTimeout(total=6 * 60 * 60)
    async with aiohttp.ClientSession(connector=connector, trust_env=True, timeout=timeout) as session:
        return await _drive(one, session, rate, seconds)


def _messages(buffer: str) -> tuple[list[str], str]:
    """vLLM's StreamedResponseHandler: whole messages end in a blank line; a lone complete JSON counts as one too."""
    messages = []
    while "\n\n" in buffer:
        message, buffer = buffer.split("\n\n", 1)
        if message.strip():
            messages.append(message.strip())
    if buffer.startswith("data: "):
        content = buffer.removeprefix("data: ").strip()
        if content == "[DONE]":
            return [*messages, buffer.strip()], ""
        if content:
            try:
                json.loads(content)
            except json.JSONDecodeError:
                return messages, buffer
            return [*messages, buffer.strip()], ""
    return messages, buffer


async def _minimal_aiohttp(url: str, rate: float, seconds: float, tokens: int) -> list[Timing]:
    """The least an aiohttp client can do: stamp each line, parse nothing."""
    import aiohttp

    body = json.dumps(payload(tokens, as_ids=True)).encode()

    async def one(session: aiohttp.ClientSession) -> Timing:
        timing = Timing()
        started = last = time.perf_counter()
        async with session.post(f"{url}/v1/completions", data=body) as response:
            async for line in response.content:
                if line.startswith(b"data: {") and b'"choices":[{' in line:
                    last = time.perf_counter()
                    timing.tokens += 1
                    if timing.tokens == 1:
                        timing.ttft_s = last - started
        timing.ok, timing.e2e_s = timing.tokens > 0, last - started
        return timing

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        return await _drive(one, session, rate, seconds)


_ASYNC: dict[str, Callable[[str, float, float, int], Awaitable[list[Timing]]]] = {
    "vllm-bench": _vllm_bench,
    "aiohttp-minimal": _minimal_aiohttp,
}
CLIENTS = (*_ASYNC, "locust-fasthttp")


def main() -> None:
    import aiohttp  # noqa: F401 - its import is no part of the measurement

    name, url, rate, seconds, tokens = sys.argv[1:]
    before_s = cpu_s()
    timings: list[Timing] = asyncio.run(_ASYNC[name](url, float(rate), float(seconds), int(tokens)))  # type: ignore[arg-type]
    skipped = sum(at < WARMUP_S for at in arrivals(float(rate), float(seconds)))
    print(json.dumps(asdict(summarise(timings, skipped, int(tokens), cpu_before_s=before_s))))


if __name__ == "__main__":
    main()
