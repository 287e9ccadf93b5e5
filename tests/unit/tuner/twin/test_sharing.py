"""Blocks of equal text have equal names, and a forecast sees what the prefix cache will find."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain.slo import LatencySlo
from controlplane.domain.workload import SyntheticWorkload
from controlplane.services.studies.trial_plan import requests_of
from loadtests.send.prompts import parts_of
from tests.unit.tuner.twin.builders import a_setup, all_steps, an_engine_with
from tuner.twin.predict import capacity
from tuner.twin.sharing import Sharing, block_names, one_prefix
from tuner.twin.simulate import RequestArrays, simulate

LENGTHS = st.lists(st.integers(1, 200), min_size=1, max_size=8)


def a_workload(share: float) -> SyntheticWorkload:
    return SyntheticWorkload.model_validate(
        {
            "kind": "synthetic",
            "prompt_tokens": {"mean": 2000, "cv": 0.1},
            "output_tokens": {"mean": 60, "cv": 0.3},
            "shared_prefix_share": share,
        }
    )


@given(data=st.data(), prompts=LENGTHS, block_size=st.sampled_from([1, 4, 16]))
def test_names_are_equal_exactly_where_the_text_so_far_is(
    data: st.DataObject, prompts: list[int], block_size: int
) -> None:
    """Against the very text the load generator would send, token by token."""
    n = len(prompts)
    group = data.draw(st.lists(st.integers(-1, 1), min_size=n, max_size=n))
    prefix = data.draw(st.lists(st.integers(0, 100), min_size=n, max_size=n))
    sharing = Sharing(np.array(group), np.array(prefix), np.zeros(n + 1, np.int64), np.zeros(0, np.int64))
    found = block_names(sharing, np.array(prompts), block_size)
    texts = []
    for index, total in enumerate(prompts):
        parts = parts_of(index, total, group=group[index], group_tokens=prefix[index])
        tokens = [(stream, place) for stream, count in parts for place in range(count)]
        texts += [tuple(tokens[:end]) for end in range(block_size, total + 1, block_size)]
    assert len(found.names) == len(texts) == found.counts.sum()
    assert found.different == len(set(texts))
    assert len({(name, text) for name, text in zip(found.names.tolist(), texts, strict=True)}) == len(set(texts))


def test_blocks_of_a_trace_are_named_by_its_ids() -> None:
    starts, ids = np.array([0, 2, 4]), np.array([7, 8, 7, 9])
    sharing = Sharing(np.array([-1, -1]), np.array([0, 0]), starts, ids, 32.0)
    found = block_names(sharing, np.array([80, 80]), 16)
    first, second = found.names[:5], found.names[5:]
    assert (first[:2] == second[:2]).all()
    assert not set(first[2:]) & set(second[2:])


def test_the_readable_engine_finds_the_same_blocks() -> None:
    setup = a_setup()
    requests = requests_of(a_workload(0.9), rate_rps=10, duration_s=3, seed=1)
    names = block_names(requests.sharing, requests.prompt_tokens, setup.block_size)
    rows = np.split(names.names, np.cumsum(names.counts)[:-1])
    spelled = requests._replace(sharing=None, block_hashes=tuple(tuple(map(int, row)) for row in rows))
    engine, fast = an_engine_with(setup, spelled), simulate(setup, requests)
    steps = all_steps(engine)
    assert fast.steps == len(steps)
    assert fast.prefix_hits == simulate(setup, spelled).prefix_hits > 0


def test_a_preempted_request_finds_its_own_blocks_again() -> None:
    setup = a_setup(kv_blocks=400)
    requests = RequestArrays(np.zeros(24), np.full(24, 1000, np.int64), np.full(24, 300, np.int64))
    named = simulate(setup, requests._replace(sharing=one_prefix(requests.prompt_tokens, 0.0)))
    assert named.preemptions > 0
    assert named.e2e_s.max() < simulate(setup, requests).e2e_s.max()


@given(seed=st.integers(0, 1000), kv_blocks=st.sampled_from([450, 700, 5000]), rate=st.sampled_from([5.0, 60.0]))
@settings(max_examples=25, deadline=None)
def test_prompts_that_share_nothing_cost_no_names_and_change_no_result(seed: int, kv_blocks: int, rate: float) -> None:
    setup = a_setup(kv_blocks=kv_blocks)
    requests = requests_of(a_workload(0.0), rate_rps=rate, duration_s=40 / rate, seed=seed)
    names = block_names(requests.sharing, requests.prompt_tokens, setup.block_size)
    rows = np.split(names.names, np.cumsum(names.counts)[:-1])
    spelled = requests._replace(sharing=None, block_hashes=tuple(tuple(map(int, row)) for row in rows))
    found, expected = simulate(setup, requests), simulate(setup, spelled)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


TTFT = LatencySlo.model_validate({"metric": "ttft_ms", "percentile": 95, "limit_ms": 1000})


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_forecast_gains_from_a_shared_prefix_only_with_the_cache_on(share: float) -> None:
    def rps(share: float, *, cached: bool) -> float:
        setup = a_setup({"enable-prefix-caching": cached})
        return capacity(
            setup,
            lambda rate: requests_of(a_workload(share), rate_rps=rate, duration_s=20, seed=1),
            (TTFT,),
            start_rps=10,
            precision=0.1,
        ).rps

    alone, off, on = rps(0.0, cached=True), rps(share, cached=False), rps(share, cached=True)
    assert off == pytest.approx(alone, rel=0.1)
    assert on > alone * (1 + share / 2)
