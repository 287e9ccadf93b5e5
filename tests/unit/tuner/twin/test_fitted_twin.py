"""A twin fitted to levels: it starts wrong, sees levels of an engine, and foretells that engine's capacity."""

from __future__ import annotations

import math

import numpy as np
import pytest

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.slo import LatencyMetric, LatencySlo
from tests.unit.tuner.twin.builders import a_profile
from tuner.ladder.fitted_twin import FittedTwin, SeenLevel
from tuner.twin.predict import capacity, latencies_s, threshold
from tuner.twin.setup import EngineSetup, resolve
from tuner.twin.shapes import load_shape
from tuner.twin.simulate import RequestArrays, simulate

TTFT = LatencySlo(metric=LatencyMetric.TTFT, percentile=95, limit_ms=500)
TPOT = LatencySlo(metric=LatencyMetric.TPOT, percentile=95, limit_ms=25)
SLOS = (TTFT, TPOT)
LEVEL_S = 60.0


def requests_at(rate_rps: float) -> RequestArrays:
    rng = np.random.default_rng(3)
    n = round(rate_rps * LEVEL_S)
    return RequestArrays(
        scheduled_s=np.sort(rng.uniform(0, LEVEL_S, n)),
        prompt_tokens=np.full(n, 1500),
        output_tokens=np.full(n, 150),
    )


def a_setup(**parameters: float) -> EngineSetup:
    config = EngineConfig(flags={"max-model-len": 8192})
    return resolve(load_shape("llama-8b"), "H200", config, a_profile(**parameters))


def the_engine() -> EngineSetup:
    """Slower than the default profile in most ways, each by another factor."""
    return a_setup(memory_efficiency=0.6, matmul_efficiency=0.52, kv_efficiency=0.5, step_fixed_ms=0.75, sequence_us=8)


def capacity_of(setup: EngineSetup) -> float:
    return capacity(setup, requests_at, SLOS, start_rps=10, precision=0.01).rps


def level(setup: EngineSetup, rate_rps: float, *, until_s: float | None = None) -> SeenLevel:
    """Run one level on an engine; `until_s` cuts it."""
    requests = requests_at(rate_rps)
    result = simulate(setup, requests)
    done = requests.scheduled_s + result.e2e_s <= (math.inf if until_s is None else until_s)
    measured = {slo: float(np.percentile(latencies_s(result)[slo.metric][done], 95)) * 1e3 for slo in SLOS}
    return SeenLevel(rate_rps, int(done.sum()), measured, until_s)


def a_twin() -> FittedTwin:
    return FittedTwin(a_setup(), requests_at, SLOS, start_rps=10)


def error_after(*levels: SeenLevel) -> float:
    twin = a_twin()
    for each in levels:
        twin.see(each)
    found = twin.capacity_rps()
    assert found is not None
    return abs(found / capacity_of(the_engine()) - 1)


def test_before_any_level_it_is_the_twin_as_it_was() -> None:
    assert a_twin().capacity_rps() == pytest.approx(capacity_of(a_setup()), rel=0.02)
    assert error_after() > 0.2


@pytest.mark.parametrize("share", [0.7, 0.9, 1.0, 1.2])
def test_one_level_near_the_limit_on_either_side_tells_where_it_is(share: float) -> None:
    assert error_after(level(the_engine(), share * capacity_of(the_engine()))) < 0.05


def test_a_level_that_was_cut_tells_too() -> None:
    assert error_after(level(the_engine(), 1.3 * capacity_of(the_engine()), until_s=15)) < 0.08


def test_an_engine_that_is_as_expected_changes_nothing() -> None:
    twin = a_twin()
    twin.see(level(a_setup(), 8.0))
    assert twin.log_slower(TPOT, 8.0) == pytest.approx(0, abs=0.01)
    assert twin.capacity_rps() == pytest.approx(capacity_of(a_setup()), rel=0.02)


def test_a_uniformly_slower_engine_is_found_to_the_factor() -> None:
    requests = requests_at(6.0)
    result = simulate(a_setup(), requests._replace(scheduled_s=requests.scheduled_s / 1.3))
    measured = {slo: float(np.percentile(latencies_s(result)[slo.metric], 95)) * 1.3e3 for slo in SLOS}
    twin = a_twin()
    twin.see(SeenLevel(6.0, len(requests.scheduled_s), measured))
    assert twin.log_slower(TPOT, 6.0) == pytest.approx(math.log(1.3), abs=0.02)


def test_the_levels_near_a_rate_count_most_there() -> None:
    twin = a_twin()
    twin.see(level(a_setup(), 2.0))
    twin.see(level(the_engine(), 12.0))
    assert twin.log_slower(TPOT, 2.5) < twin.log_slower(TPOT, 11.0)


def test_too_few_requests_tell_nothing() -> None:
    twin = a_twin()
    twin.see(level(the_engine(), 8.0)._replace(requests=19))
    assert twin.log_slower(TPOT, 8.0) == 0


def test_a_limit_that_no_rate_meets_gives_no_capacity() -> None:
    twin = FittedTwin(a_setup(), requests_at, (TTFT.evolve(limit_ms=1),), start_rps=10)
    assert twin.capacity_rps() is None


def test_a_warm_up_is_simulated_but_not_counted() -> None:
    rush = RequestArrays(np.concatenate((np.zeros(300), np.arange(31, 60.0))), np.full(329, 4000), np.full(329, 20))
    counting, warm = (
        FittedTwin(a_setup(), lambda _: rush, (TTFT,), start_rps=1, warmup_s=warmup_s) for warmup_s in (0, 30)
    )
    assert counting.capacity_rps() is None
    assert warm.capacity_rps() is not None


def test_a_threshold_is_where_most_verdicts_agree() -> None:
    rates = np.exp(np.arange(8) * 0.1)
    verdicts = np.array([True, True, False, True, True, False, False, False])
    assert threshold(rates, verdicts) == pytest.approx(math.exp(0.45))
    assert threshold(rates, np.ones(8, dtype=bool)) == pytest.approx(math.exp(0.75))
