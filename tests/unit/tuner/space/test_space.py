"""The search space: grids, conditions, and where a configuration lies in it."""

from __future__ import annotations

import pytest

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import InvalidInput
from controlplane.domain.studies.tuning_options import Knob
from tests.unit.studies.study_world import service_spec
from tuner.space.first_tier import is_lossy, space_for
from tuner.space.space import Dimension, Requirement, Space, dimension_of


def space(*dimensions: Dimension, **base: int) -> Space:
    return Space(base=EngineConfig(flags=base), dimensions=dimensions)


SEQS = Dimension(flag="max-num-seqs", choices=(64, 128, 256), default=1024)
CHUNKED = Dimension(flag="enable-chunked-prefill", choices=(True, False), default=True)
THRESHOLD = Dimension(
    flag="long-prefill-token-threshold",
    choices=(0, 512),
    default=0,
    requires=Requirement(flag="enable-chunked-prefill", values=(True,)),
)


def test_a_logarithmic_range_over_powers_of_two_becomes_its_doublings() -> None:
    assert dimension_of("max_num_seqs", Knob(low=16, high=128, log=True), default=None).choices == (16, 32, 64, 128)


def test_a_range_with_a_step_keeps_the_step() -> None:
    assert dimension_of("x", Knob(low=0.8, high=0.95, step=0.05), default=None).choices == (0.8, 0.85, 0.9, 0.95)


def test_a_logarithmic_range_down_to_zero_is_refused() -> None:
    with pytest.raises(InvalidInput, match="above 0"):
        dimension_of("x", Knob(low=0, high=8, log=True), default=None)


def test_points_without_effect_are_met_once() -> None:
    points = list(space(CHUNKED, THRESHOLD).points())
    assert len(points) == 3
    assert {"enable-chunked-prefill": False, "long-prefill-token-threshold": None} in points


def test_what_the_engine_would_do_anyhow_is_not_written_out() -> None:
    assert space(CHUNKED).config({"enable-chunked-prefill": True}).flags == {}
    assert space(CHUNKED).config({"enable-chunked-prefill": False}).flags == {"enable-chunked-prefill": False}


def test_a_config_lies_at_its_flags_and_elsewhere_at_the_defaults() -> None:
    whole = space(SEQS, CHUNKED).including(EngineConfig())
    assert whole.point(EngineConfig(flags={"max-num-seqs": 128})) == {
        "max-num-seqs": 128,
        "enable-chunked-prefill": True,
    }
    assert whole.point(EngineConfig())["max-num-seqs"] == 1024


def test_a_config_outside_the_space_is_refused_with_the_choices() -> None:
    with pytest.raises(InvalidInput, match="64, 128, 256"):
        space(SEQS).point(EngineConfig(flags={"max-num-seqs": 7}))


def test_the_baseline_is_always_a_point_of_the_space() -> None:
    spec = service_spec()
    found = space_for(spec, spec.baseline)
    assert found.config(found.point(spec.baseline)) == spec.baseline


def test_the_first_tier_fits_model_and_gpus() -> None:
    spec = service_spec(tuning={})
    found = {dimension.flag: dimension.choices for dimension in space_for(spec, spec.baseline).dimensions}
    assert found["tensor-parallel-size"] == (1, 2, 4)
    assert found["quantization"] == (None, "fp8")
    assert 8192 in found["max-num-batched-tokens"]


def test_a_knob_for_an_unknown_flag_is_refused_with_the_nearest_name() -> None:
    spec = service_spec(tuning={"space": {"max-num-sequences": {"choices": [1]}}})
    with pytest.raises(InvalidInput, match="did you mean --max-num-seqs"):
        space_for(spec, spec.baseline)


def test_a_choice_the_engine_would_refuse_is_refused_at_once() -> None:
    spec = service_spec(tuning={"space": {"performance-mode": {"choices": ["balanced", "warp"]}}})
    with pytest.raises(InvalidInput, match="warp"):
        space_for(spec, spec.baseline)


@pytest.mark.parametrize(
    ("flags", "lossy"),
    [({"quantization": "fp8"}, True), ({"kv-cache-dtype": "fp8"}, True), ({"max-num-seqs": 8}, False), ({}, False)],
)
def test_quantized_weights_and_caches_are_lossy(flags: dict[str, str | int], lossy: bool) -> None:
    assert is_lossy(EngineConfig(flags=flags), EngineConfig()) is lossy


def test_what_the_baseline_does_already_is_not_lossy() -> None:
    quantized = EngineConfig(flags={"quantization": "fp8"})
    assert not is_lossy(quantized, quantized)
