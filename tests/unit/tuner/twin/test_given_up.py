"""A simulation that ends once its verdict is certain: the verdict is that of the whole one."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from controlplane.domain.slo import LatencyMetric, LatencySlo
from tests.unit.tuner.twin.builders import a_setup, some_requests
from tuner.twin.predict import capacity, highest_rate, meets, misses_already
from tuner.twin.setup import EngineSetup
from tuner.twin.sharing import one_prefix
from tuner.twin.simulate import RequestArrays, ResultArrays, simulate
from tuner.twin.spread import slowed

SLOS = (
    LatencySlo(metric=LatencyMetric.TTFT, percentile=95, limit_ms=800),
    LatencySlo(metric=LatencyMetric.TPOT, percentile=90, limit_ms=8),
    LatencySlo(metric=LatencyMetric.E2E, percentile=99, limit_ms=4000),
)
CRAMPED = a_setup({"max-num-seqs": 64}).evolve(kv_blocks=700)  # sequences that grow are thrown out again


def at(rate_rps: float, *, share: float = 0.0) -> RequestArrays:
    found = some_requests(240, rate_rps=rate_rps, seed=7)
    return found._replace(priority=None, sharing=one_prefix(found.prompt_tokens, share))


@pytest.mark.parametrize("slo", SLOS)
@pytest.mark.parametrize("setup", [a_setup({"max-num-seqs": 32}), CRAMPED])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_verdict_that_is_certain_early_is_the_one_at_the_end(
    slo: LatencySlo, setup: EngineSetup, share: float
) -> None:
    verdicts = set()
    for rate_rps in np.geomspace(3, 100, 8):
        requests = at(float(rate_rps), share=share)
        early = simulate(setup, requests, gives_up=partial(misses_already, (slo,)))
        whole = simulate(setup, requests)
        verdicts.add(meets((slo,), whole))
        assert meets((slo,), early) == meets((slo,), whole)
        known = ~np.isnan(early.e2e_s)
        np.testing.assert_array_equal(early.e2e_s[known], whole.e2e_s[known])
    assert verdicts == {True, False}


def test_one_that_is_looked_at_and_not_given_up_is_the_whole_one() -> None:
    looked: list[float] = []

    def never(result: ResultArrays) -> bool:
        looked.append(float(result.finished.mean()))
        return False

    for setup in (a_setup(), CRAMPED):
        looked.clear()
        early = simulate(setup, at(8), gives_up=never)
        assert looked == sorted(looked)
        assert 0 < looked[0] < 1
        for ours, theirs in zip(early, simulate(setup, at(8)), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_hopeless_rate_is_simulated_in_part() -> None:
    whole, early = (simulate(CRAMPED, at(60), gives_up=gives_up) for gives_up in (None, partial(misses_already, SLOS)))
    assert early.steps < whole.steps / 2


@pytest.mark.parametrize("setup", [a_setup({"max-num-seqs": 32}), CRAMPED])
def test_the_capacity_is_that_of_whole_simulations(setup: EngineSetup) -> None:
    def passes(rate_rps: float) -> bool:
        return meets(SLOS, slowed(setup, at(rate_rps))(1.0))

    expected = highest_rate(passes, start_rps=4.0, precision=0.02)
    assert 0 < expected < 200
    assert capacity(setup, at, SLOS, start_rps=4.0).rps == expected
