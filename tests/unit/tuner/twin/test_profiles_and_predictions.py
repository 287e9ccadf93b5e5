"""Profiles, carrying them over, predictions with intervals, capacity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import InvalidInput
from controlplane.domain.slo import LatencyMetric, LatencySlo
from tests.unit.tuner.twin.builders import a_profile, a_public_model, a_setup, some_requests
from tuner.twin.gpus import find_gpu
from tuner.twin.predict import capacity, is_saturated, latencies_ms, notes, predict
from tuner.twin.profile import Profile, check_version, load_profile, parse_profile, save_profile, shipped_profiles
from tuner.twin.setup import resolve
from tuner.twin.shapes import load_shape
from tuner.twin.simulate import RequestArrays, simulate
from tuner.twin.steptime import StepLoad, gpu_s, launch_s
from tuner.twin.transfer import profile_for

TTFT = LatencySlo(metric=LatencyMetric.TTFT, percentile=99, limit_ms=500)


def requests_at(rate: float) -> RequestArrays:
    requests = some_requests(200, rate_rps=1.0)
    return requests._replace(scheduled_s=requests.scheduled_s / rate)


def test_every_shipped_profile_says_what_it_rests_on() -> None:
    assert len(shipped_profiles()) == 9
    for profile in shipped_profiles():
        traces = [source for source in profile.sources if "probe" not in source]
        assert len(traces) <= 1
        assert profile.fit
        assert profile.linear_params


def test_a_profile_is_kept_and_found_again(tmp_path: Path) -> None:
    profile = a_profile(intake_ms=2.5)
    save_profile(profile, tmp_path)
    assert load_profile("test", folder=tmp_path) == profile


def test_a_profile_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="h200-llama-8b"):
        load_profile("nothing", folder=tmp_path)
    with pytest.raises(InvalidInput, match="memory_efficiency"):
        parse_profile('{"name": "x", "gpu": "H200", "model": "m", "parameters": {"memory_efficiency": -1}}', source="f")


def test_a_profile_of_another_release_is_refused() -> None:
    check_version(a_profile(), "0.26.4")
    with pytest.raises(InvalidInput, match=r"0\.26\.0, not 0\.27\.0"):
        check_version(a_profile(), "0.27.0")


def test_a_measured_engine_gets_its_own_profile() -> None:
    profile = profile_for(load_shape("llama-8b"), find_gpu("H200"), 8, 1)
    assert profile.name == "h200-llama-8b-fp8-tp1"
    assert profile.transferred_from is None


def test_the_same_shape_under_another_name_gets_the_profile_too() -> None:
    renamed = load_shape("llama-8b").evolve(name="my-model")
    assert profile_for(renamed, find_gpu("H200"), 16, 1).name == "h200-llama-8b-bf16-tp1"


@pytest.mark.parametrize(("gpu", "bits", "tensor"), [("H100", 16, 1), ("H200", 8, 4), ("L40S", 4, 2), ("B200", 8, 1)])
def test_what_was_never_measured_is_carried_over_with_more_doubt(gpu: str, bits: int, tensor: int) -> None:
    carried = profile_for(load_shape("llama-8b"), find_gpu(gpu), bits, tensor)
    own = profile_for(load_shape("llama-8b"), find_gpu("H200"), 16, 1)
    assert carried.transferred_from
    assert carried.uncertainty > own.uncertainty


def test_without_any_profile_the_data_sheet_answers() -> None:
    assert profile_for(load_shape("llama-1b"), find_gpu("L4"), 16, 1, []).transferred_from == "the data sheet"


def test_a_single_source_is_carried_over_unchanged() -> None:
    source: Profile = a_profile(intake_ms=3.3).evolve(linear_params=7_000_000_000)
    carried = profile_for(load_shape("llama-70b"), find_gpu("H200"), 8, 2, [source])
    assert carried.parameters.intake_ms == pytest.approx(3.3)


def test_more_work_takes_longer() -> None:
    cost = a_setup().cost
    small = StepLoad(8.0, 8.0, 8000.0, 0.0, 0.0, 0.0)
    for larger in (
        small._replace(tokens=600.0, prompt_tokens=592.0),
        small._replace(decode_context=80_000.0),
        small._replace(prefill_pairs=1e7),
        small._replace(sequences=80.0),
    ):
        assert gpu_s(cost, larger, 0.0) > gpu_s(cost, small, 0.0)
    assert gpu_s(cost, small._replace(tokens=4000.0), 1.0) > gpu_s(cost, small._replace(tokens=4000.0), 0.0)


def test_a_step_above_the_largest_graph_is_launched_kernel_by_kernel() -> None:
    cost = a_setup({"max-num-seqs": 32}).cost
    decode = StepLoad(32.0, 32.0, 1000.0, 0.0, 0.0, 0.0)
    mixed = decode._replace(tokens=60.0, prompt_tokens=28.0, prompts=1.0)
    eager = decode._replace(tokens=65.0, prompt_tokens=33.0, prompts=1.0)
    assert launch_s(cost, decode) < launch_s(cost, mixed) < launch_s(cost, eager)


def test_a_step_reads_the_weights_once_at_least() -> None:
    cost = a_setup().cost
    assert gpu_s(cost, StepLoad(1.0, 1.0, 0.0, 0.0, 0.0, 0.0), 0.0) >= cost.weights_s


def test_a_prediction_has_intervals_around_its_values() -> None:
    found = predict(a_setup(), some_requests())
    assert set(found.latency) == {f"{metric}_ms_p{p}" for metric in ("ttft", "tpot", "e2e") for p in (50, 99)}
    assert all(one.low < one.value < one.high for one in found.latency.values())
    assert not found.saturated


def test_leaving_the_calibrated_range_is_said() -> None:
    requests = some_requests()._replace(prompt_tokens=np.full(40, 8000, np.int64))
    text = " ".join(notes(a_setup({"max-num-seqs": 512}), requests))
    assert "7000 tokens" in text
    assert "512" in text
    setup = resolve(load_shape("llama-1b"), "L4", EngineConfig(flags={"max-model-len": 8192}))
    assert "carried over" in " ".join(notes(setup, requests))


@pytest.mark.parametrize(
    ("model", "unmeasured"),
    [
        ("Gemma-3-4B", "sliding window"),
        ("DeepSeek-V2-Lite", "latent attention"),
        ("Jamba-Reasoning-3B", "state space"),
        ("OLMoE-1B-7B", None),  # a mixture was measured
        ("Qwen3-8B", None),
    ],
)
def test_kinds_of_layers_that_were_never_measured_are_named(model: str, unmeasured: str | None) -> None:
    setup = resolve(a_public_model(model), "H100", EngineConfig(flags={"max-model-len": 8192}))
    named = [note for note in notes(setup, some_requests()) if "never measured" in note]
    assert named == ([] if unmeasured is None else [f"{unmeasured}: never measured, by its arithmetic alone"])


def test_a_fuller_cache_than_was_calibrated_is_said() -> None:
    narrow = a_profile().evolve(calibrated={"max_context_tokens": 100})
    setup = a_setup().evolve(profile=narrow)
    assert any("KV cache" in note for note in predict(setup, some_requests()).notes)


def test_capacity_lies_between_a_rate_that_passes_and_one_that_fails() -> None:
    setup = a_setup()
    found = capacity(setup, requests_at, (TTFT,))
    below = latencies_ms(simulate(setup, requests_at(found.rps * 0.9)))["ttft_ms_p99"]
    above = latencies_ms(simulate(setup, requests_at(found.rps * 1.2)))["ttft_ms_p99"]
    assert below <= 500 < above
    assert found.low_rps < found.rps < found.high_rps


def test_an_impossible_limit_leaves_no_capacity() -> None:
    assert capacity(a_setup(), requests_at, (TTFT.evolve(limit_ms=0.1),)).rps == 0


def test_a_limit_that_always_holds_is_censored() -> None:
    found = capacity(a_setup(), requests_at, (TTFT.evolve(limit_ms=1e9),), highest_rps=8)
    assert (found.rps, found.censored) == (8, True)


def test_an_overloaded_engine_is_seen_as_saturated() -> None:
    setup = a_setup({"max-num-seqs": 2})
    requests = requests_at(50.0)
    assert is_saturated(requests, simulate(setup, requests))
    calm = requests_at(0.5)
    assert not is_saturated(calm, simulate(a_setup(), calm))
