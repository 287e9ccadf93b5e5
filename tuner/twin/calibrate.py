"""Calibrating on a live engine: ask, time, fit, keep. Ninety seconds of probes at most; the engine must be idle."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import httpx
import numpy as np

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import Conflict, InvalidInput, Unavailable
from tuner.twin.fit import fit_profile
from tuner.twin.gpus import find_gpu
from tuner.twin.measurements import Cell, DecodeStep, MeasuredEngine
from tuner.twin.probes import Probe, Timed, common_decode, mixed_load, probe_suite, run_probe
from tuner.twin.profile import Profile
from tuner.twin.setup import resolve
from tuner.twin.shapes import ModelShape
from tuner.twin.simulate import RequestArrays

PROBES_AT_MOST_S = 90.0
_MIXED_S = 20.0
_MIXED_SHARE = 0.35
"""Load of the mixed probe: this share of the time goes to prompts of a thousand tokens."""

Progress = Callable[[str], None]


class Target(NamedTuple):
    """The engine to calibrate: where it is, and what it was started with."""

    url: str
    gpu: str
    shape: ModelShape
    config: EngineConfig
    model: str | None = None
    """The name it serves; None asks it."""


class Found(NamedTuple):
    """What the engine says of itself."""

    model: str
    version: str
    kv_tokens: float | None


def measure(target: Target, name: str, *, progress: Progress = lambda text: None, seed: int = 1) -> MeasuredEngine:
    """Probe the engine and return what was measured, under the name its profile will have.

    Raises InvalidInput for an unknown GPU or flag, Conflict when the engine is busy, Unavailable when it does not
    answer, fails a probe, or needs more than ninety seconds.
    """
    find_gpu(target.gpu)
    setup = resolve(target.shape, target.gpu, target.config)
    found, cells = asyncio.run(_measure(target, setup.max_model_len, setup.max_num_seqs, progress, seed))
    return MeasuredEngine(
        engine_id=name,
        engine_version=found.version,
        gpu=target.gpu,
        shape=target.shape,
        config=target.config,
        kv_cache_tokens=found.kv_tokens or float(setup.memory.kv_tokens),
        weights_gib_per_gpu=setup.memory.weights_gib,
        cells=cells,
    )


def fit_measured(engine: MeasuredEngine, *, generations: int = 60, seed: int = 1) -> Profile:
    """Return the profile of what `measure` found: what is known of such engines, corrected by the probes.

    Raises InvalidInput when the measurements hold no probe or no mixed load.
    """
    mixed = next((cell for cell in engine.cells if not cell.is_probe), None)
    if mixed is None:
        raise InvalidInput(f"the measurements of {engine.engine_id} hold no mixed load", allowed="calibrate again")
    known = resolve(engine.shape, engine.gpu, engine.config).profile
    cell = f"{engine.engine_id}: {mixed.name}"
    return fit_profile(engine.engine_id, [engine], trace_cell=cell, known=known, generations=generations, seed=seed)


async def look(client: httpx.AsyncClient, model: str | None) -> Found:
    """Ask who is there. Raises Conflict when requests are running or waiting, Unavailable when nobody answers."""
    try:
        metrics = (await client.get("/metrics")).raise_for_status().text
        models = (await client.get("/v1/models")).raise_for_status().json()
        version = await client.get("/version")
    except (httpx.HTTPError, ValueError) as error:
        raise Unavailable(f"no engine answers at {client.base_url}", why=str(error) or type(error).__name__) from error
    busy = _gauge(metrics, "vllm:num_requests_running"), _gauge(metrics, "vllm:num_requests_waiting")
    if None in busy:
        raise Unavailable(
            f"{client.base_url} has no vllm: metrics", why="calibration must know that the engine is idle"
        )
    if any(busy):
        raise Conflict("the engine is not idle", why=f"{busy[0]:.0f} running, {busy[1]:.0f} waiting")
    named = version.json().get("version", "unknown") if version.status_code == 200 else "unknown"
    return Found(model or models["data"][0]["id"], str(named), _kv_tokens(metrics))


async def _measure(
    target: Target, longest: int, max_num_seqs: int, progress: Progress, seed: int
) -> tuple[Found, tuple[Cell, ...]]:
    async with httpx.AsyncClient(base_url=target.url, timeout=10.0, trust_env=False) as client:
        found = await look(client, target.model)
    try:
        async with asyncio.timeout(PROBES_AT_MOST_S):
            return found, await _cells(target.url, found.model, longest, max_num_seqs, progress, seed)
    except TimeoutError as error:
        raise Unavailable("calibration gave up", why=f"the probes took more than {PROBES_AT_MOST_S:g} s") from error


async def _cells(
    base_url: str, model: str, longest: int, max_num_seqs: int, progress: Progress, seed: int
) -> tuple[Cell, ...]:
    began_s, cells = time.perf_counter(), []
    for index, probe in enumerate(probe_suite(longest=longest, max_num_seqs=max_num_seqs)):
        progress(probe.name)
        timed = await run_probe(base_url, model, probe, seed=seed + 10_000 * index)
        if probe.counted:
            cells.append(_cell(probe, timed))
    left_s = PROBES_AT_MOST_S - (time.perf_counter() - began_s)
    mixed = mixed_load(_mixed_rate(cells), duration_s=min(_MIXED_S, left_s / 3), longest=longest, seed=seed)
    progress("mixed load")
    cells.append(_cell(mixed, await run_probe(base_url, model, mixed, seed=seed + 999_983)))
    return tuple(cells)


def _mixed_rate(cells: Sequence[Cell]) -> float:
    """A rate that keeps the engine busy but far from its limit, from what one prompt took."""
    token_s = [float(cell.ttft_s[0]) / float(cell.requests.prompt_tokens[0]) for cell in cells if len(cell.ttft_s) == 1]
    return float(np.clip(_MIXED_SHARE / (1000 * min(token_s)), 0.5, 30.0))


def _cell(probe: Probe, timed: Sequence[Timed]) -> Cell:
    ordered = sorted(timed, key=lambda one: one.request.at_s)
    first_s = ordered[0].request.at_s
    requests = RequestArrays(
        scheduled_s=np.array([one.request.at_s - first_s for one in ordered]),
        prompt_tokens=np.array([one.request.prompt_tokens for one in ordered], np.int64),
        output_tokens=np.array([one.request.output_tokens for one in ordered], np.int64),
    )
    return Cell(
        name=probe.name,
        workload=probe.name,
        rate_rps=probe.rate_rps,
        requests=requests,
        ttft_s=np.array([one.ttft_s for one in ordered]),
        e2e_s=np.array([one.e2e_s for one in ordered]),
        lag_s=np.array([one.lag_s for one in ordered]),
        unfinished=0,
        decode_steps=_decode_steps(probe, ordered),
    )


def _decode_steps(probe: Probe, timed: Sequence[Timed]) -> tuple[DecodeStep, ...]:
    common = common_decode(timed) if probe.rate_rps is None else None
    if common is None:
        return ()
    seconds, steps = common
    context = sum(one.request.prompt_tokens + one.request.output_tokens / 2 for one in timed)
    return (DecodeStep(float(len(timed)), context, seconds / steps),)


def _gauge(metrics: str, name: str) -> float | None:
    values = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})?\s+([0-9.eE+-]+)", metrics, re.MULTILINE)
    return sum(map(float, values)) if values else None


def _kv_tokens(metrics: str) -> float | None:
    info = re.search(r"^vllm:cache_config_info\{([^}]*)\}", metrics, re.MULTILINE)
    labels = dict(re.findall(r'(\w+)="([^"]*)"', info.group(1))) if info else {}
    try:
        return float(labels["num_gpu_blocks"]) * float(labels["block_size"])
    except (KeyError, ValueError):
        return None


def check_replaces(existing: Profile | None, found: Profile) -> None:
    """Raise InvalidInput when a profile of that name was measured on another engine version."""
    if existing is not None and existing.engine_version != found.engine_version:
        raise InvalidInput(
            f"profile {existing.name} is of engine {existing.engine_version}, this one runs {found.engine_version}",
            allowed="another --name, or --replace",
        )
