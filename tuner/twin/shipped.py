"""Making the shipped profiles from a folder of measurements: probes, and the one trace cell named here per profile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tuner.twin.fit import fit_profile
from tuner.twin.gpus import find_gpu
from tuner.twin.measurements import MeasuredEngine
from tuner.twin.profile import Profile
from tuner.twin.setup import weight_bits
from tuner.twin.validate import source_name

_PRECISION = {16: "bf16", 8: "fp8", 4: "int4"}
TRACE_CELLS: Mapping[str, str] = {
    "h200-llama-8b-bf16-tp1": "8b-bf16-tp1-s256-t8192: azure-llm-2023/conv @ 20",
    "h200-llama-8b-fp8-tp1": "8b-fp8-tp1-s256-t8192: azure-llm-2023/conv @ 20",
    "h200-llama-8b-bf16-tp2": "8b-bf16-tp2-s256-t8192: azure-llm-2023/conv @ 27",
    "h200-llama-8b-fp8-tp2": "8b-fp8-tp2-s256-t8192: azure-llm-2023/conv @ 27",
    "h200-llama-70b-bf16-tp2": "70b-bf16-tp2-s256-t8192: azure-llm-2023/conv @ 4",
    "h100-qwen3-14b-bf16-tp1": "14b-bf16-tp1-s256-t8192: azure-llm-2023/conv @ 8",
    "h100-qwen3-30b-a3b-bf16-tp1": "moe30b-bf16-tp1-s256-t8192: azure-llm-2023/conv @ 12",
    "h200-llama-70b-fp8-tp1": "70b-fp8-tp1-s256-t8192: azure-llm-2023/conv @ 2",
}
"""Profile → the trace cell it is fitted on beside its probes: below saturation, batches large enough to show."""


def profile_name(engine: MeasuredEngine) -> str:
    """Return the name of the profile an engine belongs to, e.g. h200-llama-8b-fp8-tp1."""
    precision = _PRECISION[weight_bits(engine.shape, engine.config)]
    gpu = find_gpu(engine.gpu).name.lower()
    return f"{gpu}-{engine.shape.name}-{precision}-tp{engine.config.tensor_parallel_size}"


def fit_folder(engines: Iterable[MeasuredEngine], *, generations: int = 100) -> tuple[Profile, ...]:
    """Return one profile per kind of engine that has probes, in order of name."""
    kinds: dict[str, list[MeasuredEngine]] = {}
    for engine in engines:
        kinds.setdefault(profile_name(engine), []).append(engine)
    return tuple(
        fit_profile(name, kind, trace_cell=_trace_cell(name, kind), generations=generations)
        for name, kind in sorted(kinds.items())
        if any(cell.is_probe for engine in kind for cell in engine.cells)
    )


def _trace_cell(name: str, engines: Iterable[MeasuredEngine]) -> str | None:
    """The named cell, when this folder holds it; else the probes alone."""
    wanted = TRACE_CELLS.get(name)
    present = {source_name(engine, cell) for engine in engines for cell in engine.cells}
    return wanted if wanted in present else None
