"""The compiled engine does what the readable one does, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain.engines.flags import FlagValue
from tests.unit.tuner.twin.builders import a_setup, all_steps, an_engine_with, some_requests
from tuner.twin.setup import EngineSetup
from tuner.twin.simulate import RequestArrays, simulate

FLAGS: tuple[dict[str, FlagValue], ...] = (
    {},
    {"max-num-seqs": 4, "max-num-batched-tokens": 256},
    {"async-scheduling": False},
    {"scheduling-policy": "priority", "max-num-seqs": 3},
    {"stream-interval": 7, "enforce-eager": True},
    {"long-prefill-token-threshold": 300},
    {"enable-chunked-prefill": False},
    {"tensor-parallel-size": 2, "quantization": "fp8"},
)


def assert_equal(setup: EngineSetup, requests: RequestArrays) -> None:
    engine = an_engine_with(setup, requests)
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    for step in all_steps(engine):
        for emission in step.emitted:
            first.setdefault(emission.request_id, emission.at_s)
            last[emission.request_id] = emission.at_s
    result = simulate(setup, requests)
    order = range(len(requests.scheduled_s))
    np.testing.assert_array_equal(result.ttft_s, np.array([first[i] for i in order]) - requests.scheduled_s)
    np.testing.assert_array_equal(result.e2e_s, np.array([last[i] for i in order]) - requests.scheduled_s)
    counters = engine.counters
    assert (result.steps, result.preemptions) == (counters.steps, counters.preemptions)
    assert (result.prefix_queries, result.prefix_hits) == (counters.prefix_cache_queries, counters.prefix_cache_hits)


@pytest.mark.parametrize("flags", FLAGS, ids=str)
@pytest.mark.parametrize("shared", [False, True])
def test_both_engines_agree_whatever_the_flags(flags: dict[str, FlagValue], shared: bool) -> None:
    assert_equal(a_setup(flags), some_requests(shared=shared))


@pytest.mark.parametrize("priority", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_both_engines_agree_when_the_cache_is_too_small(priority: bool, shared: bool) -> None:
    setup = a_setup(kv_blocks=450, priority_policy=priority)
    assert_equal(setup, some_requests(60, rate_rps=60, shared=shared))
    assert simulate(setup, some_requests(60, rate_rps=60, shared=shared)).preemptions > 0


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rate=st.sampled_from([1.0, 10.0, 100.0, 5000.0]),
    seqs=st.integers(1, 64),
    budget=st.integers(64, 8192),
    blocks=st.integers(400, 5000),
    shared=st.booleans(),
)
def test_both_engines_agree_on_any_workload(
    seed: int, rate: float, seqs: int, budget: int, blocks: int, shared: bool
) -> None:
    setup = a_setup(max_num_seqs=seqs, max_num_batched_tokens=budget, kv_blocks=blocks)
    assert_equal(setup, some_requests(25, rate_rps=rate, seed=seed, shared=shared))


def test_a_run_cut_off_leaves_the_rest_unfinished() -> None:
    requests = some_requests()
    result = simulate(a_setup(), requests, until_s=float(requests.scheduled_s[20]))
    assert 0 < result.finished.sum() < len(requests.scheduled_s)
    assert np.isnan(result.e2e_s[~result.finished]).all()
