"""Memory that grows with every request, told from what warms up and from what stable does too."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from controlplane.domain.rollouts.leaks import leak
from controlplane.domain.rollouts.pressure import Loads, Pressure, Readings
from controlplane.domain.rollouts.rollout_options import RolloutOptions
from tests.builders_serving import after

ALIKE = Loads(3.0, 3.0)
OPTIONS = RolloutOptions()


def gpu(memory: Callable[[int], float], seconds: int = 90) -> Readings:
    return [Pressure(after(each), gpu_memory=memory(each)) for each in range(seconds)]


def host(held_gib: Callable[[int], float], seconds: int = 90) -> Readings:
    return [Pressure(after(each), resident_gib=held_gib(each)) for each in range(seconds)]


def flat(_: int) -> float:
    return 0.92


def leaking(second: int) -> float:
    return min(1.0, 0.92 + 0.0005 * second)


def test_memory_that_grows_steadily_where_stable_s_does_not_is_a_leak() -> None:
    found = leak([gpu(flat), gpu(leaking)], [gpu(flat)], ALIKE, OPTIONS)
    assert found is not None
    assert found.startswith("the GPU memory of a canary replica grows with every request, by 2.9 % so far, 3.00 %")


def test_requests_come_by_chance_and_a_leak_is_one_all_the_same() -> None:
    rng, told, memory = random.Random(5), [], 0.92
    for second in range(90):
        memory += 0.0002 * sum(rng.random() < 0.3 for _ in range(10))
        told.append(Pressure(after(second), gpu_memory=memory))
    assert leak([told], [gpu(flat)], ALIKE, OPTIONS) is not None


@pytest.mark.parametrize(
    "calm",
    [
        lambda second: 0.6 + 0.3 * (1 - math.exp(-second / 15)),  # fills up, and then stands
        lambda second: 0.5 + 0.05 * math.log1p(second),  # slower and slower
        lambda second: 0.5 if second < 70 else 0.7,  # a jump
        lambda second: 0.5 + 0.0001 * second,  # too little to be told from noise
        lambda second: 0.9 - 0.001 * second,
    ],
)
def test_what_warms_up_jumps_or_falls_is_none(calm: Callable[[int], float]) -> None:
    assert leak([gpu(calm)], [gpu(flat)], ALIKE, OPTIONS) is None


def test_what_grows_in_stable_too_at_that_load_is_not_the_canary_s_doing() -> None:
    slower = gpu(lambda second: 0.92 + 0.0001 * second)
    assert leak([gpu(leaking)], [slower], ALIKE, OPTIONS) is not None
    assert leak([gpu(leaking)], [slower], Loads(6.0, 3.0), OPTIONS) is None
    assert leak([gpu(leaking)], [gpu(leaking)], ALIKE, OPTIONS) is None


def test_a_process_has_to_grow_by_more_than_a_gpu() -> None:
    steady = host(lambda _: 6.0)
    found = leak([host(lambda second: 5 + 0.02 * second)], [steady], ALIKE, OPTIONS)
    assert found is not None
    assert found.startswith("the process memory of a canary replica")
    assert leak([host(lambda second: 5 + 0.004 * second)], [steady], ALIKE, OPTIONS) is None


def test_a_few_readings_an_idle_or_a_mute_stable_say_nothing() -> None:
    assert leak([gpu(leaking, seconds=20)], [gpu(flat)], ALIKE, OPTIONS) is None
    assert leak([gpu(leaking)], [gpu(flat)], Loads(3.0, 0.0), OPTIONS) is None
    assert leak([gpu(leaking)], [host(lambda _: 6.0)], ALIKE, OPTIONS) is None
    assert leak([gpu(leaking)], [], ALIKE, OPTIONS) is None
