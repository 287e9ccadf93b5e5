"""Latencies of requests that ask for LoRA adapters: the readable twin serves them, for the compiled one knows none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from loadtests.send.client.wire import asked_models
from loadtests.send.plan import Plan
from tuner.twin.engine import TwinEngine
from tuner.twin.first_use import FirstUse
from tuner.twin.setup import EngineSetup
from tuner.twin.simulate import RequestArrays

_END_S = 1e12

Seconds = npt.NDArray[np.float64]


def asked(shares: Mapping[str, float], requests: int, seed: int) -> list[str | None]:
    """Return which adapter each request asks for as the load generator draws them; None: the base model."""
    plan = Plan(
        url="http://127.0.0.1:1",
        model="base",
        out_dir="/nowhere",
        schedule_path="/nowhere",
        adapters=dict(shares),
        adapter_seed=seed,
    )
    names, drawn = asked_models(plan, requests)
    return [None if names[each] == "base" else names[each] for each in drawn]


def serve(
    setup: EngineSetup,
    arrays: RequestArrays,
    adapters: Sequence[str | None],
    *,
    first_use: FirstUse | None = None,
) -> tuple[Seconds, Seconds, Seconds, Seconds]:
    """Return TTFT, TPOT, E2E and the longest gap of each request, seconds."""
    engine, tokens = TwinEngine(setup, first_use=first_use), arrays.output_tokens
    for index, adapter in enumerate(adapters):
        engine.submit(
            index,
            prompt_tokens=int(arrays.prompt_tokens[index]),
            max_tokens=int(tokens[index]),
            now_s=float(arrays.scheduled_s[index]),
            adapter=adapter,
        )
    first, last, gap = (np.full(len(adapters), np.nan), np.full(len(adapters), np.nan), np.zeros(len(adapters)))
    while (step := engine.next_step(_END_S)) is not None:
        for emission in step.emitted:
            who, at_s = emission.request_id, emission.at_s
            if np.isnan(first[who]):
                first[who] = last[who] = at_s
            gap[who], last[who] = max(gap[who], at_s - last[who]), at_s
    between = np.where(tokens > 1, (last - first) / np.maximum(tokens - 1, 1), np.nan)
    return first - arrays.scheduled_s, between, last - arrays.scheduled_s, gap
