"""Fitting a profile: probes, decode steps and at most one trace cell in, parameters with a meaning out.

Every parameter has a prior (what vLLM costs on a current GPU, and how far that varies), so that what the probes do not
show stays where physics puts it. Errors are logarithms of ratios with a pseudo-Huber loss: one-off spikes (a kernel
compiled for a new shape, an allocation) count little. The first token after an idle pause is late by a constant that
is fitted along and thrown away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from controlplane.domain.errors import InvalidInput
from tuner.twin.compiled_state import Floats
from tuner.twin.gpus import find_gpu
from tuner.twin.layers import Trait
from tuner.twin.measurements import Cell, MeasuredEngine
from tuner.twin.optimise import minimise
from tuner.twin.profile import Parameters, Profile, Range, TermError
from tuner.twin.replay import replay
from tuner.twin.setup import EngineSetup, kv_bits, resolve, weight_bits
from tuner.twin.steptime import StepLoad, gpu_s
from tuner.twin.uncertainty import least_uncertainty
from tuner.twin.validate import source_name

_IDLE = "idle_ms"
_PRIORS: Mapping[str, tuple[float, float]] = {
    "memory_efficiency": (0.78, 0.12),
    "matmul_efficiency": (0.70, 0.15),
    "matmul_knee_tokens": (60, 0.7),
    "half_tile": (0.05, 0.5),
    "throttle": (0.10, 0.4),
    "kv_efficiency": (0.85, 0.2),
    "attention_efficiency": (0.55, 0.15),
    "step_fixed_ms": (0.5, 0.6),
    "sequence_us": (8, 0.5),
    "launch_graph_ms": (1.0, 0.5),
    "launch_piecewise_ms": (6, 0.4),
    "launch_eager_ms": (16, 0.15),
    "prompt_ms": (0.2, 0.5),
    "schedule_ms": (0.3, 0.5),
    "schedule_sequence_us": (6, 0.6),
    "intake_ms": (1.2, 0.15),
    "intake_token_us": (0.4, 0.4),
    "output_us": (40, 0.5),
    "wire_ms": (5.0, 0.3),
    _IDLE: (4.0, 0.6),
}
"""Parameter → typical value and relative spread (sigma of its logarithm)."""
_FP8_PRIORS: Mapping[str, tuple[float, float]] = {
    "matmul_efficiency": (0.55, 0.15),
    "half_tile": (0.3, 0.3),
    "launch_piecewise_ms": (8, 0.4),
    "launch_eager_ms": (21, 0.15),
}
_MIXTURE_PRIORS: Mapping[str, tuple[float, float]] = {  # sorting tokens by expert is many small kernels a layer
    "launch_piecewise_ms": (25, 0.7),
    "launch_eager_ms": (60, 0.5),
    "expert_memory_efficiency": (0.65, 0.3),
    "expert_matmul_efficiency": (0.45, 0.3),
    "expert_knee_rows": (30, 0.8),
}
_HOST = frozenset(
    {"launch_graph_ms", "launch_piecewise_ms", "launch_eager_ms", "prompt_ms", "schedule_ms", "schedule_sequence_us"}
    | {"intake_ms", "intake_token_us", "output_us", "wire_ms"}
)
"""What the host's processor and the client take: another host's may differ however well the GPU is known."""
_KNOWN_SPREAD = 2.0
"""A parameter of a known profile is believed within this many times the profile's own relative uncertainty."""
_SEVERAL_GPUS: Mapping[str, tuple[float, float]] = {"allreduce_us": (8, 0.5)}
_TOLERANCE = 0.04
"""Relative error that counts as met; beyond it the loss grows linearly."""
_SEARCHES = 4
_PERCENTILES = (10, 25, 50, 75, 90, 99)
_LONG_PROMPT = 6000
"""The longest probes come last and carry one-off costs of their size."""


class Term(NamedTuple):
    """One kind of measured number: logarithms of predicted over measured, and how much each counts."""

    name: str
    errors: Floats
    weight: float


def fit_profile(
    name: str,
    engines: Sequence[MeasuredEngine],
    *,
    trace_cell: str | None = None,
    known: Profile | None = None,
    generations: int = 80,
    seed: int = 1,
    max_uncertainty: float = 0.5,
) -> Profile:
    """Return a profile fitted to the probes of `engines` (one shape, precision and GPU count) and `trace_cell`.

    `known` is what is believed of such engines beforehand; without it the priors are typical of any engine.
    Raises InvalidInput when the engines differ in kind, hold no probe, or have no such cell.
    """
    first = _one_kind(engines)
    tensor = first.config.tensor_parallel_size
    least = least_uncertainty(first.shape.traits, tensor, live=known is not None)
    used = _training(engines, trace_cell)
    priors = _priors(first, known)
    names = list(priors)
    centre = np.log([priors[key][0] for key in names])
    spread = np.array([priors[key][1] for key in names])

    def loss(point: Floats) -> float:
        terms = _terms(used, *_parameters(names, point))
        fit = sum(term.weight * _pseudo_huber(term.errors) for term in terms)
        return fit + 0.5 * float(np.sum(((point - centre) / spread) ** 2))

    # The loss is rough (one request a step later changes a percentile), so searches end apart at about equal losses.
    # Their middle is a better estimate than the luckiest of them.
    ends = [minimise(loss, centre, spread / 2, generations=generations, seed=seed + n) for n in range(_SEARCHES)]
    parameters, idle_ms = _parameters(names, np.mean(ends, axis=0))
    terms = _terms(used, parameters, idle_ms)
    return Profile(
        name=name,
        gpu=find_gpu(first.gpu).name,
        model=first.shape.name,
        linear_params=first.shape.linear_params,
        weight_bits=weight_bits(first.shape, first.config),
        tensor_parallel_size=tensor,
        kv_bits=kv_bits(first.shape, first.config),
        traits=first.shape.traits,
        engine_version=first.engine_version,
        parameters=_rounded(parameters),
        sources=tuple(source_name(engine, cell) for engine, cells in used for cell in cells),
        fit=_errors(terms),
        calibrated=_range(used),
        uncertainty=min(max_uncertainty, _uncertainty(terms, least)),
    )


def _kind(engine: MeasuredEngine) -> tuple[str, str, int, int, int]:
    shape, config = engine.shape, engine.config
    return shape.name, engine.gpu, weight_bits(shape, config), kv_bits(shape, config), config.tensor_parallel_size


def _one_kind(engines: Sequence[MeasuredEngine]) -> MeasuredEngine:
    kinds = {_kind(engine) for engine in engines}
    if len(kinds) != 1:
        raise InvalidInput("a profile is fitted to one kind of engine", why=f"given: {sorted(map(str, kinds))}")
    return engines[0]


def _training(engines: Sequence[MeasuredEngine], trace_cell: str | None) -> list[tuple[MeasuredEngine, list[Cell]]]:
    used = []
    for engine in engines:
        cells = [cell for cell in engine.cells if cell.is_probe or source_name(engine, cell) == trace_cell]
        if cells:
            used.append((engine, cells))
    chosen = [cell for _, cells in used for cell in cells]
    if not any(cell.is_probe for cell in chosen):
        raise InvalidInput("nothing to fit", why="the measurements hold no probe")
    if trace_cell is not None and all(cell.is_probe for cell in chosen):
        known = [source_name(engine, cell) for engine in engines for cell in engine.cells if not cell.is_probe]
        raise InvalidInput(f"no trace cell {trace_cell!r}", allowed=", ".join(known))
    return used


def _priors(engine: MeasuredEngine, known: Profile | None) -> dict[str, tuple[float, float]]:
    priors = dict(_PRIORS)
    if weight_bits(engine.shape, engine.config) == 8:
        priors.update(_FP8_PRIORS)
    if engine.config.tensor_parallel_size > 1:
        priors.update(_SEVERAL_GPUS)
    if Trait.MIXTURE in engine.shape.traits:
        priors.update(_MIXTURE_PRIORS)
    return priors if known is None else {name: _informed(name, prior, known) for name, prior in priors.items()}


def _informed(name: str, prior: tuple[float, float], known: Profile) -> tuple[float, float]:
    """Return the prior that a known profile makes of a typical one: its value, and no more spread than its error."""
    if name == _IDLE:
        return prior
    spread = prior[1] if name in _HOST else min(prior[1], _KNOWN_SPREAD * known.uncertainty)
    return max(float(getattr(known.parameters, name)), 1e-6), spread


def _parameters(names: Sequence[str], point: Floats) -> tuple[Parameters, float]:
    """Return the parameters of a point in log space, and the idle delay. Efficiencies stop at their limit."""
    values = {name: float(np.exp(min(value, 20.0))) for name, value in zip(names, point, strict=True)}
    idle_ms = values.pop(_IDLE)
    return Parameters(
        **{key: min(value, 1.19) if "efficiency" in key else value for key, value in values.items()}
    ), idle_ms


def _terms(
    used: Iterable[tuple[MeasuredEngine, list[Cell]]], parameters: Parameters, idle_ms: float
) -> tuple[Term, ...]:
    found: dict[str, tuple[list[float], float]] = {}
    for engine, cells in used:
        setup = _setup(engine, parameters)
        for cell in cells:
            for term in _cell_terms(setup, cell, idle_ms / 1e3):
                errors, _ = found.setdefault(term.name, ([], term.weight))
                errors.extend(term.errors.tolist())
    return tuple(Term(name, np.array(errors), weight) for name, (errors, weight) in found.items())


def _setup(engine: MeasuredEngine, parameters: Parameters) -> EngineSetup:
    trial = Profile(name="fit", gpu=engine.gpu, model=engine.shape.name, parameters=parameters)
    return resolve(engine.shape, engine.gpu, engine.config, trial)


def _cell_terms(setup: EngineSetup, cell: Cell, idle_s: float) -> list[Term]:
    terms = [Term("decode step", _decode_errors(setup, cell), 0.8)] if cell.decode_steps else []
    if not cell.is_probe:
        return [*terms, Term("trace cell", _trace_errors(setup, cell), 0.5)]
    result = replay(setup, cell)
    ttft, e2e = result.ttft_s + idle_s, result.e2e_s + idle_s
    several = cell.requests.output_tokens[0] > 1
    if len(ttft) > 1:
        medians = [
            _log_ratio(np.median(ttft), np.median(cell.ttft_s)),
            _log_ratio(np.median(e2e), np.median(cell.e2e_s)),
        ]
        return [*terms, Term("burst", np.array(medians), 0.2)]
    weight = 0.2 if cell.requests.prompt_tokens[0] > _LONG_PROMPT else 0.7
    terms.append(Term("long prompt" if weight < 0.5 else "single prompt", _log_ratios(ttft, cell.ttft_s), weight))
    if several:
        terms.append(Term("single decode", _log_ratios(e2e - ttft, cell.e2e_s - cell.ttft_s), 2.0))
    return terms


def _decode_errors(setup: EngineSetup, cell: Cell) -> Floats:
    return np.array(
        [
            _log_ratio(gpu_s(setup.cost, StepLoad(n, n, context, 0.0, 0.0, 0.0), 0.0), step_s)
            for n, context, step_s in cell.decode_steps
        ]
    )


def _trace_errors(setup: EngineSetup, cell: Cell) -> Floats:
    result = replay(setup, cell)
    whole = ~np.isnan(cell.e2e_s)
    several = whole & (cell.requests.output_tokens > 1)
    measured_tpot = (cell.e2e_s - cell.ttft_s)[several] / (cell.requests.output_tokens[several] - 1)
    pairs = (
        (result.ttft_s[whole], cell.ttft_s[whole]),
        (result.tpot_s[several], measured_tpot),
        (result.e2e_s[whole], cell.e2e_s[whole]),
    )
    return np.concatenate(
        [
            _log_ratios(np.percentile(predicted, _PERCENTILES), np.percentile(measured, _PERCENTILES))
            for predicted, measured in pairs
        ]
    )


def _log_ratio(predicted: float, measured: float) -> float:
    return float(np.log(predicted / measured))


def _log_ratios(predicted: Floats, measured: Floats) -> Floats:
    return np.log(predicted / measured)


def _pseudo_huber(errors: Floats) -> float:
    return float(np.sum(np.sqrt(1 + (errors / _TOLERANCE) ** 2) - 1))


def _errors(terms: Iterable[Term]) -> tuple[TermError, ...]:
    return tuple(
        TermError(
            term=term.name, points=len(term.errors), median_abs_error=round(float(np.median(np.abs(term.errors))), 4)
        )
        for term in terms
    )


def _uncertainty(terms: Iterable[Term], least: float) -> float:
    """One sigma of the relative error: what the fit misses, never less than recordings kept aside were missed by."""
    errors = np.concatenate([term.errors for term in terms if term.name not in ("burst", "long prompt")])
    return round(max(least, 1.4826 * float(np.median(np.abs(errors)))), 4)


def _range(used: Iterable[tuple[MeasuredEngine, list[Cell]]]) -> Range:
    cells = [cell for _, cells in used for cell in cells]
    contexts = [step.context_tokens for cell in cells for step in cell.decode_steps]
    return Range(
        max_sequences=max(len(cell.requests.scheduled_s) if cell.is_probe else 1 for cell in cells),
        max_prompt_tokens=max(int(cell.requests.prompt_tokens.max()) for cell in cells),
        max_context_tokens=int(max(contexts, default=0.0)) or Range().max_context_tokens,
    )


def _rounded(parameters: Parameters) -> Parameters:
    return Parameters(**{key: float(f"{value:.4g}") for key, value in parameters.model_dump().items()})
