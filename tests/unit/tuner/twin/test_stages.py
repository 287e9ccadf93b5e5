"""Pipeline stages: which layers each holds, and that the stage with least room and most work decides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.errors import InvalidInput
from controlplane.domain.hardware import GpuPool
from controlplane.emulator.boot import StartRefused, engine_setup
from controlplane.emulator.flags import parse_command_line
from tests.unit.tuner.twin.builders import a_profile, a_public_model, public_models, some_requests
from tuner.space.feasibility import objections
from tuner.twin.gpus import find_gpu
from tuner.twin.memory import GIB, MemoryPlan, plan_memory, weights_gib
from tuner.twin.predict import notes
from tuner.twin.setup import DoesNotFit, EngineSetup, memory_demand, resolve
from tuner.twin.shapes import ModelShape, load_shape
from tuner.twin.simulate import simulate
from tuner.twin.stages import cut_as, stages_of

PARTITION = "VLLM_PP_LAYER_PARTITION"


def sizes(shape: ModelShape, count: int) -> list[int]:
    return [stage.num_hidden_layers for stage in stages_of(shape, count)]


def an_engine(shape: ModelShape, stages: int, gpu: str = "H200", **flags: FlagValue) -> EngineSetup:
    named = {name.replace("_", "-"): value for name, value in flags.items()}
    config = EngineConfig(flags={"max-model-len": 8192, "pipeline-parallel-size": stages, **named})
    return resolve(shape, gpu, config, a_profile())


def plan_of(shape: ModelShape, stages: int, gpu: str, **flags: FlagValue) -> MemoryPlan:
    config = EngineConfig(flags={"max-model-len": 8192, "pipeline-parallel-size": stages, **flags})
    return plan_memory(shape, find_gpu(gpu), memory_demand(shape, find_gpu(gpu), config))


@pytest.mark.parametrize(
    ("model", "count", "layers"),
    [
        ("Llama-3.1-8B", 4, [8, 8, 8, 8]),
        ("Gemma-3-27B", 4, [15, 16, 16, 15]),
        ("DeepSeek-V3", 2, [31, 30]),
        ("DeepSeek-V3", 4, [15, 15, 16, 15]),
        ("Qwen3-235B-A22B", 4, [23, 24, 24, 23]),
        ("Qwen3-235B-A22B", 3, [31, 32, 31]),
        ("Llama-3.1-405B", 4, [31, 32, 32, 31]),
        ("Llama-3.1-405B", 8, [15, 16, 16, 16, 16, 16, 16, 15]),
    ],
)
def test_what_does_not_go_evenly_goes_before_the_last_stage_as_in_vllm(
    model: str, count: int, layers: list[int]
) -> None:
    assert sizes(a_public_model(model), count) == layers


@pytest.mark.parametrize("name", public_models())
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_stages_hold_the_layers_of_the_model_and_nothing_twice(name: str, count: int) -> None:
    shape = a_public_model(name)
    stages = stages_of(shape, count)
    assert sum(stage.linear_params for stage in stages) == shape.linear_params
    assert sum(stage.kv_bytes_per_token(2) for stage in stages) == shape.kv_bytes_per_token(2)
    assert sum(stage.state_values for stage in stages) == shape.state_values
    assert [stage.head_params > 0 for stage in stages] == [False] * (count - 1) + [True]
    copies = 1 if shape.tie_word_embeddings and count == 1 else 2
    assert sum(stage.vocab_params for stage in stages) == copies * shape.vocab_params


def test_the_environment_names_the_layers_of_each_stage() -> None:
    shape = cut_as(a_public_model("Llama-3.1-8B"), {PARTITION: "10,9,8,5"})
    assert sizes(shape, 4) == [10, 9, 8, 5]
    assert cut_as(a_public_model("Llama-3.1-8B"), {}).partition is None


@pytest.mark.parametrize(
    ("partition", "count", "why"),
    [
        ("20,12", 4, "names 2 stages of 32 layers, there are 4 of 32"),
        ("20,20", 2, "names 2 stages of 40 layers, there are 2 of 32"),
        ("16,16", 1, "names 2 stages"),
        ("32,0", 2, "names 2 stages"),
        ("a,b", 2, "whole numbers between commas"),
        ("", 2, "whole numbers between commas"),
    ],
)
def test_a_partition_that_vllm_refuses_is_refused_with_the_reason(partition: str, count: int, why: str) -> None:
    shape, env = a_public_model("Llama-3.1-8B"), {PARTITION: partition}
    config = EngineConfig(flags={"pipeline-parallel-size": count, "max-model-len": 8192})
    pool = GpuPool(type="H200", count=8, price_usd_per_gpu_hour=1)
    assert why in "; ".join(objections(config, pool=pool, shape=shape, defaults={}, env=env))
    with pytest.raises(DoesNotFit, match="VLLM_PP_LAYER_PARTITION"):
        resolve(cut_as(shape, env), "H200", config)
    with pytest.raises(InvalidInput, match="VLLM_PP_LAYER_PARTITION"):
        stages_of(cut_as(shape, env), count)


def test_an_emulated_engine_is_cut_as_its_environment_says() -> None:
    words = ["llama-8b", "--max-model-len=8192", "--pipeline-parallel-size=2"]
    settings = parse_command_line(words, visible_devices=None)
    even, front = (engine_setup(settings.evolve(layer_partition=each))[1] for each in (None, "24,8"))
    assert front.memory.kv_tokens < even.memory.kv_tokens
    with pytest.raises(StartRefused, match="VLLM_PP_LAYER_PARTITION"):
        engine_setup(settings.evolve(layer_partition="24"))


def test_the_stage_with_room_for_the_fewest_blocks_decides() -> None:
    """All of a token's layers are split over the stages: what one stage cannot hold the others hold in vain."""
    shape = a_public_model("Llama-3.1-8B")
    even, front = (plan_of(cut_as(shape, env), 2, "L40S") for env in ({}, {PARTITION: "24,8"}))
    per_layer = shape.kv_bytes_per_token(2) / 32
    assert even.kv_tokens == pytest.approx(even.kv_gib * GIB / (16 * per_layer), rel=1e-3)
    assert front.kv_tokens == pytest.approx(front.kv_gib * GIB / (24 * per_layer), rel=1e-3)
    assert front.weights_gib > even.weights_gib


def test_the_last_stage_holds_the_head_and_room_for_its_logits() -> None:
    """A vocabulary of 262,144 is a fifth of Gemma-3-1B-like weights: both ends hold it, tied or not."""
    shape = a_public_model("Gemma-3-4B")
    plan = plan_of(shape, 4, "L4")
    first, *_, last = stages_of(shape, 4)
    assert first.vocab_params == last.vocab_params == shape.vocab_params
    assert plan.weights_gib == pytest.approx(
        (last.linear_params + shape.vocab_params + shape.extra_params) * 2 / GIB, rel=1e-9
    )
    assert plan.overhead_gib > shape.vocab_params * 2 / GIB


def test_weights_are_those_of_the_heaviest_stage() -> None:
    """DeepSeek-V3's first three layers are dense: a stage of mixtures alone weighs more than an even share."""
    shape, gpu = a_public_model("DeepSeek-V3"), find_gpu("H200")
    flags: dict[str, FlagValue] = {"tensor-parallel-size": 8, "pipeline-parallel-size": 2, "max-model-len": 8192}
    weights = weights_gib(shape, memory_demand(shape, gpu, EngineConfig(flags=flags)))
    assert weights > 1.02 * shape.params * 2 / 16 / GIB


def test_a_hybrid_counts_the_attention_layers_of_each_stage() -> None:
    """Jamba has one attention layer in eight, Nemotron-H its few where the pattern has them."""
    jamba = a_public_model("Jamba-1.5-Mini")
    assert [stage.kv_bytes_per_token(2) / 4096 for stage in stages_of(jamba, 4)] == [1, 1, 1, 1]
    shape = a_public_model("Nemotron-H-8B")
    held = [stage.kv_bytes_per_token(2) for stage in stages_of(shape, 3)]
    assert len(set(held)) > 1
    plan = plan_of(shape, 3, "L4")
    assert plan.kv_tokens < plan.kv_gib * GIB / (shape.kv_bytes_per_token(2) / 3)


def test_a_stage_without_attention_layers_limits_nothing() -> None:
    shape = cut_as(a_public_model("Jamba-Reasoning-3B"), {PARTITION: "2,26"})
    assert next(iter(stages_of(shape, 2))).kv_bytes_per_token(2) == 0
    plan = plan_of(shape, 2, "H200")
    assert plan.fits
    assert 0 < plan.kv_tokens < 10**9


def test_the_longest_request_is_the_one_that_every_stage_holds() -> None:
    shape = a_public_model("Llama-3.1-8B")
    flags: dict[str, FlagValue] = {"max-model-len": -1, "gpu-memory-utilization": 0.6}
    even, front = (plan_of(cut_as(shape, env), 2, "L4", **flags) for env in ({}, {PARTITION: "20,12"}))
    assert front.longest_request < even.longest_request


@given(st.integers(1, 8), st.integers(1, 4))
def test_one_stream_is_no_faster_for_being_cut_into_stages(stages: int, seed: int) -> None:
    """A token passes all stages, one after another: every weight is read for it, whichever GPU holds it."""
    shape = load_shape("llama-8b")
    whole, cut = an_engine(shape, 1), an_engine(shape, stages)
    assert cut.cost.weights_s >= whole.cost.weights_s * (1 - 1e-9)
    alone = some_requests(3, rate_rps=0.01, seed=seed)
    assert float(simulate(cut, alone).tpot_s.min()) >= 0.95 * float(simulate(whole, alone).tpot_s.min())


def test_many_streams_share_the_work_of_the_stages() -> None:
    shape = load_shape("llama-8b")
    whole, cut = an_engine(shape, 1).cost, an_engine(shape, 4).cost
    assert (cut.token_s, cut.kv_token_s, cut.pair_s) == pytest.approx(
        (whole.token_s / 4, whole.kv_token_s / 4, whole.pair_s / 4)
    )
    assert (cut.fixed_s, cut.launch_eager_s) == pytest.approx((whole.fixed_s, whole.launch_eager_s))
    assert cut.launch_graph_s == 4 * whole.launch_graph_s


def test_a_step_is_paid_by_the_stage_that_has_most() -> None:
    shape = a_public_model("Llama-3.1-8B")
    even, front = (an_engine(cut_as(shape, env), 2).cost for env in ({}, {PARTITION: "24,8"}))
    assert front.kv_token_s == pytest.approx(even.kv_token_s * 24 / 16)
    assert front.token_s == pytest.approx(even.token_s * 24 / 16)


def test_what_was_never_measured_is_carried_over_with_a_wider_interval_and_says_so() -> None:
    shape = load_shape("llama-8b")
    whole, cut = (resolve(shape, "H200", EngineConfig(flags={"pipeline-parallel-size": n})) for n in (1, 2))
    assert (whole.is_carried_over, cut.is_carried_over) == (False, True)
    assert cut.uncertainty > whole.uncertainty
    assert "pipeline stages were never measured" in notes(cut, some_requests(5))
