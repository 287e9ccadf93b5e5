"""Small engines and workloads for the tests of the twin."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.flags import FlagValue
from tuner.twin.engine import Step, TwinEngine
from tuner.twin.profile import Parameters, Profile
from tuner.twin.setup import EngineSetup, resolve
from tuner.twin.shapes import ModelShape, load_shape, parse_shape
from tuner.twin.simulate import RequestArrays


def a_profile(**parameters: float) -> Profile:
    return Profile(name="test", gpu="H200", model="llama-8b", parameters=Parameters(**parameters))


def public_models() -> dict[str, Any]:
    """Public config.json values with the parameter counts and cache sizes published for them."""
    found: dict[str, Any] = json.loads((Path(__file__).parent / "public_models.json").read_text())
    return found


def a_public_model(name: str) -> ModelShape:
    return parse_shape(public_models()[name]["config"], name=name.lower())


def a_setup(flags: dict[str, FlagValue] | None = None, **changes: Any) -> EngineSetup:
    config = EngineConfig(flags={"max-model-len": 8192, **(flags or {})})
    return resolve(load_shape("llama-8b"), "H200", config, a_profile()).evolve(**changes)


def some_requests(n: int = 40, *, rate_rps: float = 20.0, seed: int = 0, shared: bool = False) -> RequestArrays:
    rng = np.random.default_rng(seed)
    prompts = rng.integers(1, 3000, n)
    names = tuple(
        tuple((index % 3) * 1000 + block for block in range(int(tokens) // 16)) for index, tokens in enumerate(prompts)
    )
    return RequestArrays(
        scheduled_s=np.cumsum(rng.exponential(1 / rate_rps, n)),
        prompt_tokens=prompts.astype(np.int64),
        output_tokens=rng.integers(1, 120, n).astype(np.int64),
        block_hashes=names if shared else (),
        priority=rng.integers(0, 3, n).astype(np.int64),
    )


def an_engine_with(setup: EngineSetup, requests: RequestArrays) -> TwinEngine:
    engine = TwinEngine(setup)
    for index in range(len(requests.scheduled_s)):
        engine.submit(
            index,
            prompt_tokens=int(requests.prompt_tokens[index]),
            max_tokens=int(requests.output_tokens[index]),
            now_s=float(requests.scheduled_s[index]),
            block_hashes=requests.block_hashes[index] if requests.block_hashes else (),
            priority=0 if requests.priority is None else int(requests.priority[index]),
        )
    return engine


def all_steps(engine: TwinEngine) -> Sequence[Step]:
    steps = []
    while (step := engine.next_step(1e12)) is not None:
        steps.append(step)
    return steps
