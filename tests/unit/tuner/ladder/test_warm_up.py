"""When an engine is in steady state, and what it is asked until it is."""

from __future__ import annotations

import pytest

from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.studies.warm_up import Probe, WarmUp
from tuner.ladder.warm_up import is_steady, sweep


@pytest.mark.parametrize(
    ("sweeps_s", "steady"),
    [
        ([], False),
        ([3.0], False),  # one sweep is compared with nothing
        ([3.0, 3.2], True),
        ([60.0, 3.0], False),  # how much of the 3 s was compiled, nothing tells yet
        ([60.0, 3.0, 3.1], True),
        ([60.0, 9.0, 3.0], False),
        ([60.0, 9.0, 3.0, 3.9], True),
        ([3.0, 6.0], False),
        ([3.0, 6.0, 6.0], False),  # slower than the fastest, however often
        ([0.02, 0.4], True),  # no compilation is that short
    ],
)
def test_steady_is_a_sweep_as_long_as_the_fastest_before(sweeps_s: list[float], steady: bool) -> None:
    assert is_steady(sweeps_s) is steady


def swept(longest: int = 4000, kind: EngineKind = EngineKind.VLLM, **flags: FlagValue) -> tuple[Probe, ...]:
    config = EngineConfig(flags={name.replace("_", "-"): value for name, value in flags.items()})
    return sweep(kind, config, longest=longest)


def batches(probes: tuple[Probe, ...]) -> list[int]:
    return [probe.prompts for probe in probes if probe.answer_tokens > 1]


def steps(probes: tuple[Probe, ...]) -> list[int]:
    return [probe.prompt_tokens for probe in probes if probe.answer_tokens == 1]


def test_batches_double_up_to_what_the_engine_holds_with_odd_ones_between() -> None:
    assert batches(swept(max_num_seqs=12)) == [1, 2, 3, 4, 7, 8, 11, 12]
    assert max(batches(swept())) == max(batches(swept(max_num_seqs=1024))) == 256
    assert max(batches(swept(kind=EngineKind.SGLANG, max_running_requests=48))) == 48
    assert max(batches(swept(kind=EngineKind.EMULATOR, max_num_seqs=48))) == 48


def test_prompts_grow_up_to_the_smallest_of_workload_step_and_context() -> None:
    assert steps(swept(max_num_batched_tokens=64)) == [16, 31, 32, 63, 64, 4000]
    assert max(steps(swept(max_model_len=1024))) == 1008
    assert max(steps(swept(longest=300))) == 300
    assert max(steps(swept(max_model_len="-1", max_num_batched_tokens="1k"))) == 4000


def test_a_step_of_more_tokens_than_any_prompt_is_made_of_several() -> None:
    probes = swept(longest=1000, max_num_batched_tokens=2048)
    assert Probe(4, 682, 1) in probes
    assert all(probe.prompt_tokens <= 1000 for probe in probes)


def test_a_workload_of_single_tokens_has_a_sweep_too() -> None:
    assert min(probe.prompt_tokens for probe in swept(longest=1, max_model_len=8)) == 1


def test_two_warm_ups_are_steady_when_both_are_and_say_what_was_wrong() -> None:
    good = WarmUp(sweeps=2, took_s=6, steady=True)
    bad = WarmUp(sweeps=1, took_s=225, steady=False, why="it did not answer")
    assert good.note is None
    assert good.and_then(good) == WarmUp(sweeps=2, took_s=12, steady=True)
    assert good.and_then(bad).note == (
        "not in steady state before its first level: 2 sweeps, 231 s (it did not answer)"
    )
