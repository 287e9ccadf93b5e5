"""What if: ask the twin about a configuration, a rate or a traffic nobody measured. Nothing is started."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import InvalidInput
from controlplane.domain.launch import without_emulator_flags
from controlplane.domain.operations.replica_capacity import ReplicaCapacity, foretold
from controlplane.domain.operations.what_if import Expected, ExpectedPoint, Origin, WhatIf, WhatIfAnswer
from controlplane.domain.service import ServiceSpec
from controlplane.domain.slo import LatencyMetric
from controlplane.domain.studies.capacity import Capacity, FleetSize, fleet_size, replicas_for, usd_per_million_tokens
from controlplane.domain.words import counted
from controlplane.domain.workload import Lengths, SyntheticWorkload, TraceWorkload
from controlplane.services.studies.forecast import workload_at
from tuner.space.feasibility import model_rules
from tuner.space.first_tier import shape_of
from tuner.space.knobs.checks import check_flags
from tuner.twin.beyond import shape_under
from tuner.twin.gpus import find_gpu, gpu_of
from tuner.twin.predict import RequestsAt, capacity, is_saturated, notes
from tuner.twin.profile import Profile
from tuner.twin.setup import DoesNotFit, EngineSetup, resolve
from tuner.twin.shapes import SHIPPED_SHAPES, load_shape
from tuner.twin.sharing import one_prefix
from tuner.twin.simulate import RequestArrays
from tuner.twin.spread import Outcomes, outcomes, percentile_s, slowed
from tuner.twin.stages import cut_as

CURVE_POINTS = 10
CURVE_END = 1.12  # of the capacity: far enough to see where it bends
WINDOW_S = 60.0  # long enough for a queue to show

_SPREAD = 0.8  # coefficient of variation of lengths a person gives as a mean only


def what_if(spec: ServiceSpec, question: WhatIf, profile: Profile | None = None) -> WhatIfAnswer:
    """Return what the twin expects, by `profile` or else the nearest shipped one.

    Raises InvalidInput for a flag this engine version does not know, and for a model, GPU or value the twin does not.
    """
    spec = spec.served_by(EngineConfig(flags=question.flags))
    if not spec.engine.driver.has_twin:
        raise InvalidInput(
            f"there is no twin of {spec.engine.driver.title}",
            why="nobody has calibrated one",
            allowed="a study, which measures instead; engine.kind vllm for a forecast",
        )
    if not spec.has_twin:
        raise InvalidInput(
            f"the twin cannot forecast {spec.name}",
            why=f"it does not know what requests for adapters ({', '.join(spec.tuning.asked_adapters)}) cost",
            allowed="a study, which measures; without tuning.adapters a forecast of the base model alone",
        )
    if shape_of(spec) is None and not Path(spec.model.path).exists():
        raise InvalidInput(
            f"the twin does not know the model {spec.model.path}",
            why="it needs the model's config.json, which a hub name does not have here",
            allowed=f"model.path: a folder with config.json, or one of {', '.join(SHIPPED_SHAPES)}",
        )
    shape = cut_as(load_shape(spec.model.path), spec.engine.env)
    gpu = gpu_of(spec.gpus) or find_gpu(spec.gpus.type)
    config = spec.baseline.with_flags(question.flags)
    check_flags(without_emulator_flags(config), spec.engine)
    overridden = shape_under(shape, config)
    refused = [] if overridden is None else model_rules(config, overridden, spec.engine.env)
    if refused:
        return _refusal(spec, config, "; ".join(refused))
    try:
        setup = resolve(shape, gpu, config, profile)
    except DoesNotFit as refusal:
        return _refusal(spec, config, str(refusal))
    return _answer(spec, question, config, setup, given=profile is not None)


def _refusal(spec: ServiceSpec, config: EngineConfig, why: str) -> WhatIfAnswer:
    return WhatIfAnswer(service=spec.service, config=config, profile="memory model", refusal=why)


def _origin(setup: EngineSetup, *, given: bool) -> Origin:
    if setup.is_carried_over:
        return Origin.CARRIED_OVER
    return Origin.CALIBRATED if given else Origin.MEASURED


def _answer(
    spec: ServiceSpec, question: WhatIf, config: EngineConfig, setup: EngineSetup, *, given: bool
) -> WhatIfAnswer:
    asked = _with_lengths(spec, question)
    requests_at = _sharing(workload_at(asked, seed=spec.tuning.seed, duration_s=WINDOW_S), question.shared_prefix)
    percentiles = sorted({50.0, 99.0, *(slo.percentile for slo in spec.slos.latency)})
    found = capacity(setup, requests_at, spec.slos.latency, start_rps=question.rate_rps or 1.0, bounds=True)
    size = _size(spec, question, config, found.rps)
    sample = requests_at(question.rate_rps or max(found.rps, 1 / 64))
    rates = np.linspace(found.rps / CURVE_POINTS, found.rps * CURVE_END, CURVE_POINTS) if question.curve else ()
    return WhatIfAnswer(
        service=spec.service,
        config=config,
        profile=setup.profile.name,
        origin=_origin(setup, given=given),
        kv_tokens=setup.memory.kv_tokens,
        point=None if question.rate_rps is None else _point(setup, requests_at, question.rate_rps, percentiles),
        capacity=found,
        replica=_replica(setup, requests_at, found),
        fleet=size,
        usd_per_million_tokens=None if size is None else _usd_per_million(spec, question, size, sample),
        curve=tuple(_point(setup, requests_at, float(rate), percentiles) for rate in rates if rate > 0),
        notes=(*notes(setup, sample), *_beyond(size, spec, found.rps)),
    )


def _replica(setup: EngineSetup, requests_at: RequestsAt, found: Capacity) -> ReplicaCapacity | None:
    """Return what the replica holds at its capacity: by the requests of one window at just that rate."""
    if found.rps <= 0:
        return None
    requests = requests_at(found.rps)
    result = outcomes(setup, slowed(setup, requests)).expected
    e2e_s = result.e2e_s[~np.isnan(result.e2e_s)]
    return foretold(
        found,
        prompt_tokens=float(requests.prompt_tokens.mean()),
        output_tokens=float(requests.output_tokens.mean()),
        kv_usage=result.peak_kv_usage,
        e2e_s=float(e2e_s.mean()) if len(e2e_s) else None,
    )


def _sharing(requests_at: RequestsAt, share: float | None) -> RequestsAt:
    """Return the same workload with a prefix shared by all prompts, where one is asked for."""
    if share is None:
        return requests_at

    def shared_at(rate_rps: float) -> RequestArrays:
        requests = requests_at(rate_rps)
        return requests._replace(sharing=one_prefix(requests.prompt_tokens, share))

    return shared_at


def _beyond(size: FleetSize | None, spec: ServiceSpec, capacity_rps: float) -> Iterable[str]:
    if size is not None and size.gpus > spec.gpus.count:
        yield f"this fleet needs {size.gpus} GPUs, the service has {spec.gpus.count}"
    ceiling = spec.slos.max_usd_per_hour
    if size is not None and ceiling is not None and size.usd_per_hour > ceiling:
        replicas = math.floor(ceiling * size.replicas / size.usd_per_hour)
        held = replicas * capacity_rps * (1 - spec.tuning.objective.headroom)
        buys = f"it pays for {counted(replicas, 'replica')}, good for {held:.3g} requests/s"
        yield (
            f"this fleet costs {size.usd_per_hour:.2f} USD/h, max_usd_per_hour is {ceiling:g}: "
            f"{buys if replicas else 'it does not pay for one replica'}"
        )


def _with_lengths(spec: ServiceSpec, question: WhatIf) -> ServiceSpec:
    """Return the spec with a synthetic workload of the asked means; a mean not asked for stays the workload's."""
    if question.prompt_tokens is None and question.output_tokens is None:
        return spec
    sample = workload_at(spec, seed=spec.tuning.seed)(1.0)
    prompt = question.prompt_tokens or float(sample.prompt_tokens.mean())
    output = question.output_tokens or float(sample.output_tokens.mean())
    longest = spec.workload.max_prompt_tokens if isinstance(spec.workload, TraceWorkload) else 131072
    workload = SyntheticWorkload(
        prompt_tokens=Lengths(mean=prompt, cv=_SPREAD, max=max(longest, int(prompt))),
        output_tokens=Lengths(mean=output, cv=_SPREAD),
        arrivals=spec.workload.arrivals,
        seed=spec.workload.seed,
    )
    return spec.evolve(workload=workload)


def _point(setup: EngineSetup, requests_at: RequestsAt, rate_rps: float, percentiles: Iterable[float]) -> ExpectedPoint:
    requests = requests_at(rate_rps)
    found = outcomes(setup, slowed(setup, requests))
    result = found.expected
    return ExpectedPoint(
        rate_rps=rate_rps,
        saturated=is_saturated(requests, result),
        latency={
            f"{metric.value}_p{rank:g}": expected
            for metric in LatencyMetric
            for rank in percentiles
            if (expected := _expected(found, metric, rank)) is not None
        },
        kv_usage=result.peak_kv_usage,
        prefix_hit_share=result.prefix_hits / result.prefix_queries if result.prefix_queries else None,
    )


def _expected(found: Outcomes, metric: LatencyMetric, rank: float) -> Expected | None:
    seconds = percentile_s(found, metric, rank)
    if seconds is None:
        return None
    value, low, high = (each * 1e3 for each in seconds)
    return Expected(value=value, low=low, high=high)


def _size(spec: ServiceSpec, question: WhatIf, config: EngineConfig, capacity_rps: float) -> FleetSize | None:
    if capacity_rps <= 0:
        return None
    objective = spec.tuning.objective
    target = question.target_qps or spec.slos.target_qps
    replicas = replicas_for(target, capacity_rps, headroom=objective.headroom, spare=objective.spare_replicas)
    return fleet_size(replicas, config.gpus_per_replica, spec.gpus)


def _usd_per_million(spec: ServiceSpec, question: WhatIf, size: FleetSize, sample: RequestArrays) -> float:
    """Return the price of tokens when the fleet carries exactly its target."""
    tokens = float((sample.prompt_tokens + sample.output_tokens).mean())
    target = question.target_qps or spec.slos.target_qps
    return usd_per_million_tokens(size.usd_per_hour, target * tokens)
