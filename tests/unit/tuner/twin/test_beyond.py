"""Flags that the twin does not follow: no number as if they were not there."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.errors import InvalidInput
from controlplane.domain.hardware import GpuPool
from tests.unit.tuner.twin.builders import a_profile, a_public_model, some_requests
from tuner.space.feasibility import memory_plan, objections
from tuner.twin.flags import FlagReader
from tuner.twin.predict import notes
from tuner.twin.setup import DoesNotFit, EngineSetup, NotModelled, resolve
from tuner.twin.shapes import load_shape


def an_engine(**flags: Any) -> EngineSetup:
    written = {name.replace("_", "-") if "." not in name else name: value for name, value in flags.items()}
    return resolve(load_shape("llama-8b"), "H200", EngineConfig(flags={"max-model-len": 8192, **written}), a_profile())


def against(model: str, flags: dict[str, FlagValue], env: dict[str, str] | None = None) -> str:
    pool = GpuPool(type="H200", count=8, price_usd_per_gpu_hour=1)
    config, shape = EngineConfig(flags=flags), a_public_model(model)
    return "; ".join(objections(config, pool=pool, shape=shape, defaults={}, env=env or {}))


@pytest.mark.parametrize(
    "flags",
    [
        {"speculative-config": {"method": "ngram", "num_speculative_tokens": 4}},
        {"speculative-config.method": "eagle3"},
        {"kv-transfer-config": '{"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}'},
        {"kv-offloading-size": 20},
        {"api-server-count": 4},
        {"compilation-config": {"cudagraph_mode": "FULL_DECODE_ONLY"}},
        {"compilation-config.mode": 0},
    ],
)
def test_a_flag_whose_effect_is_left_out_is_named_and_doubted(flags: dict[str, Any]) -> None:
    """Speculative decoding was forecast as without, "measured", within a tenth."""
    plain, setup = an_engine(), an_engine(**flags)
    assert not plain.is_carried_over
    assert setup.is_carried_over
    assert setup.uncertainty > plain.uncertainty + 0.2
    assert any("not followed" in note for note in notes(setup, some_requests(4)))


@pytest.mark.parametrize("flags", [{"speculative-config": "null"}, {"api-server-count": 1}, {"compilation-config": 3}])
def test_a_flag_that_changes_nothing_is_not_doubted(flags: dict[str, Any]) -> None:
    assert an_engine(**flags) == an_engine()


@pytest.mark.parametrize(
    "flags",
    [
        {"dtype": "float32"},
        {"tensor-parallel-size": 2, "decode-context-parallel-size": 2},
        {"hf-overrides": {"num_hidden_layers": 4}},
        {"hf-overrides": "not JSON"},
        {"hf-overrides.architectures": '["Other"]'},
        {"hf-config-path": "elsewhere"},
    ],
)
def test_what_may_be_another_model_or_memory_has_no_prediction_and_no_objection(flags: dict[str, Any]) -> None:
    with pytest.raises(NotModelled, match="no prediction"):
        an_engine(**flags)
    config, pool = EngineConfig(flags=flags), GpuPool(type="T4", count=8, price_usd_per_gpu_hour=1)
    shape = a_public_model("Llama-3.1-405B")
    assert objections(config, pool=pool, shape=shape, defaults={}) == ()
    assert memory_plan(config, pool=pool, shape=shape) is None


YARN = '{"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}}'


@pytest.mark.parametrize(
    ("overrides", "length", "refused"),
    [
        (YARN, 131072, False),
        (YARN, 131073, True),
        ({"max_position_embeddings": 65536}, 65536, False),
        ({"max_position_embeddings": 16384}, 20000, True),
        ({"rope_theta": 1e6}, 40961, True),
    ],
)
def test_overrides_of_the_length_make_it_longer_as_in_vllm(overrides: Any, length: int, refused: bool) -> None:
    flags: dict[str, Any] = {"hf-overrides": overrides, "max-model-len": length}
    assert ("is above the model's" in against("Qwen3-8B", flags)) is refused


def test_a_length_beyond_the_models_is_taken_where_vllm_is_told_to() -> None:
    flags: dict[str, FlagValue] = {"max-model-len": 65536}
    assert "is above the model's" in against("Qwen3-8B", flags)
    assert against("Qwen3-8B", flags, {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}) == ""


@pytest.mark.parametrize(("tensor", "fine"), [(1, True), (2, True), (4, False), (5, True)])
def test_heads_of_keys_and_values_must_be_shared_evenly(tensor: int, fine: bool) -> None:
    """Phi-4 has 40 heads and 10 of keys and values: vLLM stops with "10 is not divisible by 4"."""
    flags: dict[str, FlagValue] = {"tensor-parallel-size": tensor, "max-model-len": 8192}
    assert (against("Phi-4", flags) == "") is fine
    if not fine:
        with pytest.raises(DoesNotFit, match="10 heads of keys and values"):
            resolve(a_public_model("Phi-4"), "H200", EngineConfig(flags=flags))


@pytest.mark.parametrize("size", ["auto", "two", "", 0, -1, 1.5, True])
@pytest.mark.parametrize("kind", ["tensor", "pipeline", "data"])
def test_a_size_that_is_none_is_named_instead_of_a_traceback(kind: str, size: FlagValue) -> None:
    assert f"{kind}-parallel-size is" in against("Llama-3.1-8B", {f"{kind}-parallel-size": size})


@pytest.mark.parametrize(
    ("flags", "tokens"),
    [
        ({}, 512),
        ({"compilation-config": {"cudagraph_mode": "NONE"}}, 0),
        ({"compilation-config": {"cudagraph_capture_sizes": [1, 2, 64]}}, 64),
        ({"compilation-config.max_cudagraph_capture_size": 128}, 128),
        ({"compilation-config.cudagraph_capture_sizes": "[1, 2, 32]"}, 32),
        ({"cudagraph-capture-sizes": "1 2 4"}, 4),
        ({"max-cudagraph-capture-size": 256}, 256),
        ({"optimization-level": 0}, 0),
        ({"enforce-eager": True}, 0),
    ],
)
def test_the_largest_graph_is_the_one_that_flags_name(flags: dict[str, Any], tokens: int) -> None:
    assert an_engine(**flags).cost.graph_tokens == tokens


@pytest.mark.parametrize("flags", [{"compilation-config": "{"}, {"compilation-config.cudagraph_capture_sizes": "x"}])
def test_a_json_flag_that_cannot_be_read_is_named(flags: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"JSON|CUDA graph"):
        an_engine(**flags)


def test_parts_with_a_dot_lie_over_the_whole() -> None:
    reader = FlagReader(EngineConfig(flags={"hf-overrides": '{"a": 1, "b": 2}', "hf-overrides.b": 3}))
    assert reader.parts("hf-overrides") == {"a": 1, "b": 3}
