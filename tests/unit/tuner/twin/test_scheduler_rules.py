"""What must hold in every step, whatever comes in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain.errors import InvalidInput
from tests.unit.tuner.twin.builders import a_setup, all_steps, an_engine_with, some_requests
from tuner.twin.engine import TwinEngine
from tuner.twin.kvcache import KvPool, Sequence


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), seqs=st.integers(1, 20), budget=st.integers(32, 4096), blocks=st.integers(300, 3000))
def test_no_step_exceeds_its_limits(seed: int, seqs: int, budget: int, blocks: int) -> None:
    setup = a_setup(max_num_seqs=seqs, max_num_batched_tokens=budget, kv_blocks=blocks)
    engine = an_engine_with(setup, some_requests(20, seed=seed, shared=True))
    ended_s = 0.0
    while (step := engine.next_step(1e9)) is not None:
        assert step.sequences <= seqs
        assert step.tokens <= budget
        assert engine.running <= seqs
        assert 0 <= engine.kv_usage <= 1
        assert step.start_s >= ended_s
        ended_s = step.end_s
    assert engine.kv_usage == 0
    assert engine.running == engine.waiting == 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), interval=st.integers(1, 9), blocks=st.integers(300, 3000))
def test_every_token_comes_out_once(seed: int, interval: int, blocks: int) -> None:
    requests = some_requests(20, seed=seed)
    engine = an_engine_with(a_setup(kv_blocks=blocks, stream_interval=interval), requests)
    tokens = dict.fromkeys(range(20), 0)
    finished = dict.fromkeys(range(20), 0)
    for step in all_steps(engine):
        for emission in step.emitted:
            tokens[emission.request_id] += emission.tokens
            finished[emission.request_id] += emission.finished
    assert list(tokens.values()) == requests.output_tokens.tolist()
    assert set(finished.values()) == {1}
    assert engine.counters.generation_tokens == requests.output_tokens.sum()
    assert engine.counters.prompt_tokens == requests.prompt_tokens.sum()


def test_equal_requests_get_their_first_token_in_order_of_arrival() -> None:
    engine = TwinEngine(a_setup(max_num_seqs=2))
    for index in range(10):
        engine.submit(index, prompt_tokens=500, max_tokens=5, now_s=index * 0.001)
    firsts = list(dict.fromkeys(emission.request_id for step in all_steps(engine) for emission in step.emitted))
    assert firsts == list(range(10))


def test_an_important_request_overtakes_those_waiting() -> None:
    engine = TwinEngine(a_setup(max_num_seqs=1, priority_policy=True))
    for index, priority in enumerate((0, 5, 5, -1)):
        engine.submit(index, prompt_tokens=100, max_tokens=50, now_s=index * 0.001, priority=priority)
    ends = [emission.request_id for step in all_steps(engine) for emission in step.emitted if emission.finished]
    assert ends == [0, 3, 1, 2]


def test_a_known_prefix_is_not_computed_again() -> None:
    engine = TwinEngine(a_setup())
    names = tuple(range(64))
    engine.submit(0, prompt_tokens=1024, max_tokens=1, now_s=0.0, block_hashes=names)
    all_steps(engine)
    engine.submit(1, prompt_tokens=1024, max_tokens=1, now_s=10.0, block_hashes=names)
    (step,) = all_steps(engine)
    assert step.tokens == 16  # all but the last block: the last token is always computed
    assert engine.counters.prefix_cache_hits == 1008


def test_a_cancelled_request_leaves_nothing_behind() -> None:
    engine = TwinEngine(a_setup())
    for index in range(4):
        engine.submit(index, prompt_tokens=200, max_tokens=100, now_s=0.0)
    engine.next_step(0.1)
    engine.cancel(2, 0.1)
    engine.cancel(99, 0.1)
    emitted = {emission.request_id for step in all_steps(engine) for emission in step.emitted if emission.finished}
    assert emitted == {0, 1, 3}
    assert engine.kv_usage == 0


def test_nothing_ends_before_its_time() -> None:
    engine = TwinEngine(a_setup())
    assert engine.next_event_s is None
    engine.submit(0, prompt_tokens=100, max_tokens=2, now_s=5.0)
    assert engine.next_step(5.0) is None
    assert engine.next_event_s is not None
    assert engine.next_event_s > 5.0


@pytest.mark.parametrize(("prompt", "output"), [(0, 1), (1, 0), (8192, 1), (8000, 193)])
def test_requests_longer_than_the_engine_takes_are_refused(prompt: int, output: int) -> None:
    with pytest.raises(InvalidInput, match="tokens"):
        TwinEngine(a_setup()).submit(0, prompt_tokens=prompt, max_tokens=output, now_s=0.0)


def test_the_least_recently_freed_prefix_is_evicted_first() -> None:
    pool = KvPool(5, 16, caching=True)
    for order, name in enumerate((1, 2, 3, 4)):
        sequence = Sequence(order, 17, 1, order, hashes=(name,))
        assert pool.allocate(sequence, 0, 16)
        pool.remember(sequence, 16)
        pool.release(sequence)
    assert pool.free == 4
    newcomer = Sequence(9, 33, 1, 9, hashes=(7, 8))
    assert pool.allocate(newcomer, 0, 32)
    known = [name for name in (1, 2, 3, 4) if pool.cached_blocks(Sequence(0, 17, 1, 0, hashes=(name,)))]
    assert known == [3, 4]
