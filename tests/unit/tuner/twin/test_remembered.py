"""Simulations that come again: looked up where all is the same, made anew where anything differs, and bounded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from controlplane.domain.errors import InvalidInput
from tests.unit.tuner.twin.builders import a_setup, some_requests
from tuner.twin.remembered import Memory
from tuner.twin.setup import EngineSetup
from tuner.twin.sharing import one_prefix
from tuner.twin.simulate import RequestArrays, ResultArrays, simulate


class Counted:
    """Simulates, and keeps what it was asked."""

    def __init__(self) -> None:
        self.made: list[RequestArrays] = []

    def __call__(self, setup: EngineSetup, requests: RequestArrays) -> ResultArrays:
        self.made.append(requests)
        return simulate(setup, requests)


Change = Callable[[RequestArrays], RequestArrays]


def test_what_was_simulated_before_is_looked_up() -> None:
    counted = Counted()
    memory = Memory(1000, simulate=counted)
    first, again = (memory(a_setup(), some_requests()) for _ in range(2))
    plain = simulate(a_setup(), some_requests())
    assert len(counted.made) == 1
    for found in (first, again):
        for ours, theirs in zip(found, plain, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "changed",
    [
        lambda r: r._replace(scheduled_s=r.scheduled_s * 1.0000001),
        lambda r: r._replace(prompt_tokens=r.prompt_tokens + 1),
        lambda r: r._replace(output_tokens=r.output_tokens + 1),
        lambda r: r._replace(prompt_tokens=r.output_tokens, output_tokens=r.prompt_tokens),
        lambda r: r._replace(priority=None),
        lambda r: r._replace(sharing=one_prefix(r.prompt_tokens, 0.5)),
        lambda r: r._replace(sharing=one_prefix(r.prompt_tokens, 0.0)),
    ],
)
def test_other_requests_are_simulated(changed: Change) -> None:
    counted = Counted()
    memory = Memory(1000, simulate=counted)
    memory(a_setup(), some_requests())
    found = memory(a_setup(), changed(some_requests()))
    assert len(counted.made) == 2
    np.testing.assert_array_equal(found.e2e_s, simulate(a_setup(), changed(some_requests())).e2e_s)


@pytest.mark.parametrize(
    "other",
    [
        a_setup({"max-num-seqs": 4}),
        a_setup({"enable-prefix-caching": False}),
        a_setup().evolve(max_model_len=5000),
        a_setup().evolve(cost=a_setup().cost._replace(token_s=a_setup().cost.token_s * 1.01)),
    ],
)
def test_another_engine_is_simulated(other: EngineSetup) -> None:
    counted = Counted()
    memory = Memory(1000, simulate=counted)
    found = [memory(setup, some_requests()) for setup in (a_setup(), other)]
    assert len(counted.made) == 2
    np.testing.assert_array_equal(found[1].e2e_s, simulate(other, some_requests()).e2e_s)


def test_hashes_of_blocks_are_never_looked_up() -> None:
    counted = Counted()
    memory = Memory(1000, simulate=counted)
    for _ in range(2):
        memory(a_setup(), some_requests(shared=True))
    assert len(counted.made) == 2


def test_what_was_not_asked_for_longest_is_forgotten_first() -> None:
    counted = Counted()
    memory = Memory(100, simulate=counted)
    for seed in (1, 2, 1, 3, 1, 2):
        memory(a_setup(), some_requests(40, seed=seed))
    assert [len(counted.made), memory.held_requests] == [4, 80]


def test_a_refused_request_is_refused_every_time() -> None:
    memory = Memory(1000)
    for _ in range(2):
        with pytest.raises(InvalidInput, match="a request of"):
            memory(a_setup().evolve(max_model_len=100), some_requests())


def test_what_several_look_at_cannot_be_changed() -> None:
    found = Memory(1000)(a_setup(), some_requests())
    with pytest.raises(ValueError, match="read-only"):
        found.e2e_s[0] = 0.0
