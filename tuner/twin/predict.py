"""What a configuration will do: percentiles, capacity, and how far to trust them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from controlplane.domain.base import Value
from controlplane.domain.slo import LatencyMetric, LatencySlo
from controlplane.domain.studies.capacity import Capacity
from tuner.twin.compiled_state import Floats
from tuner.twin.layers import Trait
from tuner.twin.profile import Profile, shipped_profiles
from tuner.twin.setup import EngineSetup
from tuner.twin.simulate import RequestArrays, ResultArrays
from tuner.twin.spread import Outcomes, outcomes, percentile_s, slowed

RequestsAt = Callable[[float], RequestArrays]
"""Returns the workload at a request rate, requests per second: same shapes and seed, other arrival times."""

_Z90 = 1.645


class Interval(Value):
    """A predicted number with its 90 % interval."""

    value: float
    low: float
    high: float


class Prediction(Value):
    """One workload at one rate. Latencies in milliseconds by `<metric>_p<percentile>`, e.g. `ttft_ms_p99`."""

    rate_rps: float
    latency: Mapping[str, Interval]
    peak_kv_usage: float = Field(ge=0, le=1)
    preemptions: int
    saturated: bool = Field(description="Requests queue up faster than they leave.")
    output_tps: float
    total_tps: float = Field(description="Prompt and output tokens per second.")
    notes: tuple[str, ...] = Field(default=(), description="Where the prediction leaves what was calibrated.")


def predict(setup: EngineSetup, requests: RequestArrays) -> Prediction:
    """Return what an idle engine does with `requests` (at least one), with 90 % intervals."""
    found = outcomes(setup, slowed(setup, requests))
    result = found.expected
    span_s = float(requests.scheduled_s[-1] - requests.scheduled_s[0]) or 1.0
    busy_s = float(np.max(requests.scheduled_s + result.e2e_s) - requests.scheduled_s[0])
    return Prediction(
        rate_rps=len(requests.scheduled_s) / span_s,
        latency=_intervals_ms(found),
        peak_kv_usage=result.peak_kv_usage,
        preemptions=result.preemptions,
        saturated=is_saturated(requests, result),
        output_tps=float(requests.output_tokens.sum()) / busy_s,
        total_tps=float(requests.output_tokens.sum() + requests.prompt_tokens.sum()) / busy_s,
        notes=notes(setup, requests, result),
    )


def _intervals_ms(found: Outcomes) -> dict[str, Interval]:
    named = {
        f"{metric.value}_p{rank}": percentile_s(found, metric, rank) for metric in LatencyMetric for rank in (50, 99)
    }
    return {name: interval_ms(value) for name, value in named.items() if value is not None}


def interval_ms(seconds: tuple[float, float, float]) -> Interval:
    """Return (expected, low, high) in milliseconds."""
    value, low, high = (each * 1e3 for each in seconds)
    return Interval(value=value, low=low, high=high)


def latencies_ms(result: ResultArrays) -> dict[str, float]:
    """Return P50 and P99 of TTFT, TPOT and E2E, ms, over finished requests; metrics nobody has are left out."""
    found = {}
    for metric, values in latencies_s(result).items():
        known = values[~np.isnan(values)]
        for percentile in (50, 99) if len(known) else ():
            found[f"{metric.value}_p{percentile}"] = float(np.percentile(known, percentile)) * 1e3
    return found


def latencies_s(result: ResultArrays) -> dict[LatencyMetric, Floats]:
    """Return every request's latency per metric, seconds; NaN where it has none."""
    return {
        LatencyMetric.TTFT: result.ttft_s,
        LatencyMetric.TPOT: result.tpot_s,
        LatencyMetric.E2E: result.e2e_s,
    }


def interval(setup: EngineSetup, value: float) -> Interval:
    """Return `value` with the profile's 90 % interval (log-normal, so that it stays positive)."""
    factor = math.exp(_Z90 * setup.uncertainty)
    return Interval(value=value, low=value / factor, high=value * factor)


def notes(setup: EngineSetup, requests: RequestArrays, result: ResultArrays | None = None) -> tuple[str, ...]:
    """Say in words where `requests`, the setup or what came of them leave the calibrated range."""
    found, known = [], setup.profile.calibrated
    if setup.profile.transferred_from:
        found.append(f"carried over from profile {setup.profile.transferred_from}; nothing was measured here")
        found += [f"{trait}: never measured, by its arithmetic alone" for trait in _unmeasured(setup.profile)]
    if setup.kv_bits != setup.profile.kv_bits:
        found.append(f"a KV cache of {setup.kv_bits} bits: the profile was measured with {setup.profile.kv_bits}")
    if int(requests.prompt_tokens.max()) > known.max_prompt_tokens:
        found.append(f"prompts beyond the calibrated {known.max_prompt_tokens} tokens")
    held = 0 if result is None else int(result.peak_kv_usage * setup.kv_blocks * setup.block_size)
    if held > known.max_context_tokens:
        found.append(f"{held} tokens in the KV cache, beyond the calibrated {known.max_context_tokens}")
    if setup.max_num_seqs > known.max_sequences:
        found.append(
            f"max-num-seqs {setup.max_num_seqs} allows more than the calibrated {known.max_sequences} sequences"
        )
    if setup.expert_parallel:
        found.append("expert parallelism was never measured")
    if setup.pipeline_stages > 1:
        found.append("pipeline stages were never measured")
    found += [f"{flag}: not followed, the forecast is of an engine without it" for flag in setup.unfollowed]
    return tuple(found)


def _unmeasured(profile: Profile) -> list[Trait]:
    """Return the kinds of layers of a carried-over profile that no shipped profile was measured with."""
    measured = {trait for each in shipped_profiles() for trait in each.traits}
    return [trait for trait in profile.traits if trait not in measured]


def is_saturated(requests: RequestArrays, result: ResultArrays) -> bool:
    """Whether waiting grows through the run: the last third of requests waits far longer than the first.

    The limits (2 s, or 1 s and four times the first third) mark a queue that does not drain within a run.
    """
    waits = np.where(np.isnan(result.ttft_s), np.inf, result.ttft_s)
    if len(waits) < 9:
        return bool(np.any(waits > 2.0))
    third = len(waits) // 3
    first, last = float(np.median(waits[:third])), float(np.median(waits[-third:]))
    return float(np.percentile(waits, 99)) > 2.0 or last > max(1.0, 4 * first)


def meets(slos: Iterable[LatencySlo], result: ResultArrays) -> bool:
    """Whether every limit holds; unfinished requests miss, an undefined TPOT passes."""
    metrics = latencies_s(result)
    for slo in slos:
        values = metrics[slo.metric]
        missed = (values * 1e3 > slo.limit_ms) | ~result.finished
        if float(np.mean(missed)) > slo.allowed_miss_ratio + 1e-12:
            return False
    return True


def misses_already(slos: Iterable[LatencySlo], result: ResultArrays) -> bool:
    """Whether so many of a run that goes on are above a limit that it will not be met, whatever is to come."""
    metrics = latencies_s(result)
    return any(
        float(np.mean(metrics[slo.metric] * 1e3 > slo.limit_ms)) > slo.allowed_miss_ratio + 1e-12 for slo in slos
    )


def capacity(
    setup: EngineSetup,
    requests_at: RequestsAt,
    slos: tuple[LatencySlo, ...],
    *,
    start_rps: float = 1.0,
    highest_rps: float = 1000.0,
    precision: float = 0.02,
    step: float = 2.0,
    bounds: bool = False,
) -> Capacity:
    """Return the highest rate within every SLO: steps up (or down) to a bracket, then bisection to `precision`.

    0 when even 1/64 request per second misses; `censored` when `highest_rps` still passes. With `bounds`, `low_rps` and
    `high_rps` are the capacities of an engine as slow and as fast as the profile's 90 % interval allows (three searches
    in place of one: close to a latency limit capacity moves by far more than speed); else they span that interval.
    """

    def of(slower: float, start: float) -> float:
        def passes(rate: float) -> bool:
            return meets(slos, slowed(setup, requests_at(rate), gives_up=partial(misses_already, slos))(slower))

        return highest_rate(passes, start_rps=start, highest_rps=highest_rps, precision=precision, step=step)

    found = of(1.0, start_rps)
    spread = interval(setup, found)
    low, high = spread.low, spread.high
    if bounds:
        factor = spread.high / spread.value if found else 1.0
        low, high = min(low, of(factor, low or start_rps)), max(high, of(1 / factor, high or start_rps))
    return Capacity(rps=found, low_rps=low, high_rps=high, censored=found >= highest_rps)


def highest_rate(
    passes: Callable[[float], bool],
    *,
    start_rps: float,
    highest_rps: float = 1000.0,
    precision: float,
    step: float = 2.0,
) -> float:
    """Return the highest rate that passes, from below, to `precision` (relative): 0 when even 1/64 does not.

    A bracket is looked for from `start_rps` by factors of `step`: small where the start is known to be near, as a rate
    far above the capacity takes longest to simulate.
    """
    low, high = _bracket(passes, start_rps, highest_rps, step)
    while low > 0 and high - low > precision * high:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low


def threshold(rates: Floats, passes: NDArray[np.bool_]) -> float:
    """Return the rate that agrees with most verdicts: which rates pass is not monotone near the limit.

    `rates` are sorted and evenly spaced on logarithms, at least two; beyond either end the spacing goes on.
    """
    step = math.log(rates[1] / rates[0])
    wrong = np.array([np.sum(~passes[:at]) + np.sum(passes[at:]) for at in range(len(passes) + 1)])
    return float(rates[0] * math.exp((np.flatnonzero(wrong == wrong.min()).mean() - 0.5) * step))


def _bracket(passes: Callable[[float], bool], start_rps: float, highest_rps: float, step: float) -> tuple[float, float]:
    rate = min(start_rps, highest_rps)
    if passes(rate):
        while rate < highest_rps:
            higher = min(rate * step, highest_rps)
            if not passes(higher):
                return rate, higher
            rate = higher
        return highest_rps, highest_rps
    while rate > 1 / 64:
        if passes(rate / step):
            return rate / step, rate
        rate /= step
    return 0.0, rate
