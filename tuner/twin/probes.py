"""What calibration asks a live engine, and how a probe is run.

The suite mirrors the published measurements: single prompts of growing length, bursts of growing size, one mixed load.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from controlplane.domain.errors import Unavailable
from tuner.twin.stream_probe import CONNECT_AHEAD_S, timed_stream


class ProbeRequest(NamedTuple):
    """One request: when to send it (seconds from the probe's start) and how many tokens each way."""

    at_s: float
    prompt_tokens: int
    output_tokens: int


class Probe(NamedTuple):
    """Requests sent together. `rate_rps` is None for bursts."""

    name: str
    requests: tuple[ProbeRequest, ...]
    rate_rps: float | None = None
    counted: bool = True


class Timed(NamedTuple):
    """What one request showed, seconds from its scheduled instant; `token_s` are instants from the probe's start."""

    request: ProbeRequest
    lag_s: float
    token_s: tuple[float, ...]

    @property
    def ttft_s(self) -> float:
        return self.token_s[0] - self.request.at_s

    @property
    def e2e_s(self) -> float:
        return self.token_s[-1] - self.request.at_s


def probe_suite(*, longest: int, max_num_seqs: int) -> tuple[Probe, ...]:
    """Return the probes for an engine that takes `longest` tokens and runs `max_num_seqs` sequences. Warm-up first."""
    lengths = [length for length in (128, 1024, 4096) if length + 2 <= longest]
    warm = [_burst(f"warm-up {length}", length, 8, 1, counted=False) for length in lengths]
    single = [_burst(f"probe {length}/1 x1", length, 1, 1) for length in lengths for _ in range(2)]
    sizes = [size for size in (1, 8, 32, 64, 128) if size <= max_num_seqs]
    shapes = [(128, size) for size in sizes if longest >= 176]
    shapes += [(3000, 8)] if longest >= 3048 and max_num_seqs >= 8 else []
    return (*warm, *single, *(probe for length, size in shapes for probe in _twice(length, size)))


def mixed_load(rate_rps: float, *, duration_s: float, longest: int, seed: int) -> Probe:
    """Return Poisson arrivals with log-normal lengths (means about 900 in, 130 out)."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1 / rate_rps, size=max(8, int(rate_rps * duration_s))))
    prompts = np.clip(rng.lognormal(6.5, 0.9, len(arrivals)), 16, min(4000, longest // 2)).astype(int)
    outputs = np.clip(rng.lognormal(4.5, 0.8, len(arrivals)), 2, min(400, longest // 4)).astype(int)
    requests = tuple(ProbeRequest(float(t), int(p), int(o)) for t, p, o in zip(arrivals, prompts, outputs, strict=True))
    return Probe("mixed", requests, rate_rps)


async def run_probe(base_url: str, model: str, probe: Probe, *, seed: int) -> tuple[Timed, ...]:
    """Send a probe and time every token. Raises Unavailable when one request fails."""
    bodies = [_body(model, request, seed + index) for index, request in enumerate(probe.requests)]
    start_s = time.perf_counter() + CONNECT_AHEAD_S
    sends = (_send(base_url, request, body, start_s) for request, body in zip(probe.requests, bodies, strict=True))
    try:
        with _no_collection():
            return tuple(await asyncio.gather(*sends))
    except (OSError, ValueError) as error:
        why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise Unavailable(f"calibration stopped at {probe.name}", why=why) from error


@contextmanager
def _no_collection() -> Iterator[None]:
    """A pass of the garbage collector would show as a late token."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _twice(length: int, size: int) -> tuple[Probe, Probe]:
    """The first burst of its size pays for kernels compiled and memory taken once; the second is what counts."""
    first = _burst(f"warm-up {length}/48 x{size}", length, 48, size, counted=False)
    return first, _burst(f"probe {length}/48 x{size}", length, 48, size)


def _burst(name: str, prompt: int, output: int, size: int, *, counted: bool = True) -> Probe:
    return Probe(name, tuple(ProbeRequest(0.0, prompt, output) for _ in range(size)), None, counted)


def _body(model: str, request: ProbeRequest, seed: int) -> bytes:
    """Random token ids, never the same prompt twice: a cached prefix would hide the work."""
    tokens = np.random.default_rng(seed).integers(100, 5000, request.prompt_tokens).tolist()
    body = {
        "model": model,
        "prompt": tokens,
        "max_tokens": request.output_tokens,
        "min_tokens": request.output_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
    }
    return json.dumps(body).encode()


async def _send(base_url: str, request: ProbeRequest, body: bytes, start_s: float) -> Timed:
    times = await timed_stream(base_url, "/v1/completions", body, at_s=start_s + request.at_s)
    seen = tuple(at_s - start_s for at_s in times.token_s)
    return Timed(request, times.sent_s - start_s - request.at_s, seen)


def common_decode(timed: Sequence[Timed]) -> tuple[float, float] | None:
    """Return (seconds, steps) in which all requests of a burst were decoding; None when that was under ten steps."""
    begin, end = max(one.token_s[0] for one in timed), min(one.token_s[-1] for one in timed)
    steps = [sum(begin < at <= end for at in one.token_s) for one in timed]
    mean = float(np.mean(steps))
    return (end - begin, mean) if mean >= 10 else None
