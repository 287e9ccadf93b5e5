"""What the twin says of 30 public models on 12 GPUs: a capacity with its interval, "does not fit", or "unknown".

    python -m benchmarks.predict_table --out docs/results/predict-30x12.md

Prompts of 1,000 tokens on average (at most 2,500), outputs of 200, Poisson arrivals, seed 7, 30 s; P95 of TTFT within
2,000 ms and of TPOT within 100 ms; vLLM's defaults but for max-model-len (8192 at most); all weights in 16 bits; the
fewest of 1, 2, 4 or 8 GPUs that hold the model (of MIG slices one: they cannot work together).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import InvalidInput
from controlplane.domain.slo import LatencyMetric, LatencySlo
from controlplane.domain.workload import Lengths, SyntheticWorkload
from controlplane.services.studies.trial_plan import requests_of
from tuner.twin.gpus import known_gpu
from tuner.twin.predict import capacity
from tuner.twin.setup import DoesNotFit, EngineSetup, resolve
from tuner.twin.shapes import ModelShape, UnknownModel, parse_shape
from tuner.twin.simulate import RequestArrays

MODELS = Path(__file__).parents[1] / "tests" / "unit" / "tuner" / "twin" / "public_models.json"
UNKNOWN = {"A-new-architecture": {"config": {"architectures": ["NobodyKnowsForCausalLM"], "hidden_size": 4096}}}
GPUS = (
    *("H100", "NVIDIA H100 PCIe", "H200", "A100-80GB", "L40S", "L4", "RTX 4090", "A10", "B200", "MI300X"),
    *("NVIDIA H100 80GB HBM3 MIG 3g.40gb", "NVIDIA GB10"),
)
CHOSEN = (
    *("Llama-3.1-8B", "Llama-3.1-70B", "Llama-3.1-405B", "Llama-3.2-3B", "Yi-34B", "Mistral-7B-v0.3"),
    *("Mistral-Nemo-12B", "Mistral-Small-24B", "Mixtral-8x7B", "Mixtral-8x22B", "Qwen2.5-7B", "Qwen2.5-72B"),
    *("Qwen3-14B", "Qwen3-32B", "Qwen3-30B-A3B", "Qwen3-235B-A22B", "OLMoE-1B-7B", "Phi-4", "Gemma-2-27B"),
    *("Gemma-3-12B", "DeepSeek-V2-Lite", "DeepSeek-V3", "gpt-oss-20b", "gpt-oss-120b", "GLM-4.5-Air"),
    *("Qwen3-Next-80B-A3B", "Jamba-1.5-Mini", "Qwen2.5-VL-7B", "Llama-4-Scout"),
)
_SLOS = (
    LatencySlo(metric=LatencyMetric.TTFT, percentile=95, limit_ms=2000),
    LatencySlo(metric=LatencyMetric.TPOT, percentile=95, limit_ms=100),
)


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.parse_args().out.write_text(table())


def table() -> str:
    """Return the table in Markdown, the unknown architecture last."""
    public: dict[str, Any] = json.loads(MODELS.read_text())
    rows = [*((name, public[name]) for name in CHOSEN), *UNKNOWN.items()]
    lines = [_row(name, each["config"]) for name, each in rows]
    head = [_TITLE, "", f"| model | {' | '.join(GPUS)} |", "|---" * (len(GPUS) + 1) + "|"]
    return "\n".join([*head, *lines]) + "\n"


_TITLE = f"""# What the twin says of 30 public models on 12 GPUs

```
python -m benchmarks.predict_table --out docs/results/predict-30x12.md
```
{(__doc__ or "").split("predict-30x12.md")[1].rstrip()}
Each cell: GPUs: capacity in requests/s (90 % interval). Cells marked measured rest on a recording of just such an
engine, all others are carried over. A GPU without a data sheet, and an architecture outside the table, have no
answer."""


def _row(name: str, config: dict[str, Any]) -> str:
    try:
        shape = parse_shape(config, name=name.lower())
    except UnknownModel:
        return f"| {name} |" + " unknown |" * len(GPUS)
    return f"| {name} | {' | '.join(_answer(shape, gpu) for gpu in GPUS)} |"


def _answer(shape: ModelShape, gpu: str) -> str:
    if known_gpu(gpu) is None:
        return "unknown"
    sizes = (1,) if "MIG" in gpu else (1, 2, 4, 8)  # slices cannot work together
    setups = (_setup(shape, gpu, tensor) for tensor in sizes)
    setup = next((each for each in setups if each is not None), None)
    if setup is None:
        return "does not fit"
    try:
        found = capacity(setup, _requests_at, _SLOS, start_rps=4.0, highest_rps=64.0, precision=0.1, bounds=True)
    except InvalidInput as refusal:  # a request the engine would refuse
        return str(refusal)
    origin = "" if setup.is_carried_over else " measured"
    if found.censored:
        return f"{setup.gpus}: over 64{origin}"
    return f"{setup.gpus}: {found.rps:.2g} ({found.low_rps:.2g} to {found.high_rps:.2g}){origin}"


def _setup(shape: ModelShape, gpu: str, tensor: int) -> EngineSetup | None:
    length = min(8192, shape.max_position_embeddings)
    try:
        return resolve(shape, gpu, EngineConfig(flags={"max-model-len": length, "tensor-parallel-size": tensor}))
    except DoesNotFit:
        return None


def _requests_at(rate_rps: float) -> RequestArrays:
    workload = SyntheticWorkload(
        prompt_tokens=Lengths(mean=1000, cv=0.8, max=2500), output_tokens=Lengths(mean=200, cv=0.6, max=1000)
    )
    return requests_of(workload, rate_rps=rate_rps, duration_s=30.0, seed=7)


if __name__ == "__main__":
    main()
