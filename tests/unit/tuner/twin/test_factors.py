"""A calibration's factors: which part of an engine is slow is told by the percentiles of its levels."""

from __future__ import annotations

import numpy as np
import pytest

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.slo import LatencyMetric
from controlplane.domain.studies.calibration import Factors
from tests.unit.tuner.twin.builders import a_profile, some_requests
from tuner.twin.corrected import factored
from tuner.twin.factors import Found, SeenLoad, fit_factors
from tuner.twin.gpus import find_gpu
from tuner.twin.setup import EngineSetup
from tuner.twin.shapes import load_shape
from tuner.twin.simulate import simulate
from tuner.twin.spread import series

CONFIG = EngineConfig(flags={"max-model-len": 8192})
PROFILE = a_profile(intake_ms=1.2, intake_token_us=1.0, output_us=40)


def engine_with(factors: Factors) -> EngineSetup:
    return factored(load_shape("llama-8b"), find_gpu("H200"), CONFIG, factors, PROFILE)


def seen(setup: EngineSetup, rate_rps: float) -> SeenLoad:
    requests = some_requests(200, rate_rps=rate_rps)
    result = simulate(setup, requests)
    measured: dict[tuple[LatencyMetric, float], float] = {}
    for metric in LatencyMetric:
        values = series(result, metric)
        measured |= {(metric, rank): float(np.nanpercentile(values, rank)) for rank in (50.0, 90.0, 95.0, 99.0)}
    return SeenLoad(requests, measured)


def fitted(setup: EngineSetup) -> Found:
    return fit_factors(engine_with, [seen(setup, rate_rps) for rate_rps in (15.0, 30.0, 40.0)], known=False)


@pytest.mark.parametrize(
    "slow", [Factors(server=5.0), Factors(server=3.0, stream=2.0)], ids=["server", "server and stream"]
)
def test_a_server_that_is_the_limit_is_not_taken_for_a_slow_gpu(slow: Factors) -> None:
    """Looked for from a server as fast as usual only, most of the error was left, and other parts were blamed."""
    found = fitted(engine_with(slow))
    assert found.error_after < 0.03
    assert found.factors.server == pytest.approx(slow.server, rel=0.25)
    assert found.factors.stream == pytest.approx(slow.stream, rel=0.25)
    assert found.factors.compute < 1.3


def test_a_slow_gpu_is_not_taken_for_a_slow_server() -> None:
    found = fitted(engine_with(Factors(memory=2.0, compute=2.0)))
    assert found.error_after < 0.06 < found.error_before
    assert found.factors.server < 1.3
    assert found.factors.compute > 1.6


def test_what_no_part_explains_is_not_blamed_on_a_server_far_off() -> None:
    """Prompts in pieces of 256 tokens: first tokens are later, nothing is slower."""
    found = fitted(engine_with(Factors()).evolve(long_prefill_token_threshold=256))
    assert found.error_after > 0.06
    assert found.factors.server < 1.5
