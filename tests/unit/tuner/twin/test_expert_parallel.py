"""Whole experts on each GPU: what the busiest of them costs, what it weighs, and that nobody measured it."""

from __future__ import annotations

import pytest

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.hardware import GpuPool
from controlplane.domain.workload import Lengths, SyntheticWorkload
from controlplane.services.studies.trial_plan import requests_of
from tests.unit.tuner.twin.builders import a_public_model
from tuner.space.feasibility import objections
from tuner.twin.costs import expert_spread
from tuner.twin.gpus import find_gpu
from tuner.twin.memory import weights_gib
from tuner.twin.predict import notes
from tuner.twin.setup import DoesNotFit, EngineSetup, memory_demand, resolve
from tuner.twin.shapes import load_shape
from tuner.twin.simulate import RequestArrays
from tuner.twin.steptime import experts_s

WHOLE = {"enable-expert-parallel": True}
STEPS = (1.0, 8.0, 64.0, 512.0, 8192.0)


def a_mixture(gpus: int, *, whole: bool, model: str = "Qwen3-30B-A3B") -> EngineSetup:
    flags = {"max-model-len": 8192, "tensor-parallel-size": gpus, **(WHOLE if whole else {})}
    return resolve(a_public_model(model), "H100", EngineConfig(flags=flags))


def some_requests() -> RequestArrays:
    workload = SyntheticWorkload(prompt_tokens=Lengths(mean=500), output_tokens=Lengths(mean=50))
    return requests_of(workload, rate_rps=4, duration_s=10, seed=1)


@pytest.mark.parametrize("tokens", STEPS)
def test_the_busiest_gpu_has_at_least_its_part_and_at_most_everything(tokens: float) -> None:
    sliced, whole = (experts_s(a_mixture(4, whole=each).cost, tokens, 0.0) for each in (False, True))
    assert sliced <= whole <= 4 * sliced


def test_the_more_tokens_a_step_holds_the_more_even_it_is() -> None:
    sliced, whole = (a_mixture(4, whole=each).cost for each in (False, True))
    excess = [experts_s(whole, tokens, 0.0) / experts_s(sliced, tokens, 0.0) for tokens in STEPS]
    assert excess[-1] < 1.02
    assert excess[0] == max(excess) > 1.5


def test_no_gpu_reads_more_than_the_experts_it_holds() -> None:
    cost = a_mixture(8, whole=True).cost
    assert max(experts_s(cost._replace(expert_token_s=0.0), tokens, 0.0) for tokens in STEPS) <= cost.experts_s


def test_one_gpu_holds_all_experts_whole_anyway() -> None:
    assert a_mixture(1, whole=True).cost == a_mixture(1, whole=False).cost
    assert expert_spread(1, 8) == 0.0
    assert expert_spread(2, 8) < expert_spread(8, 8) < expert_spread(8, 1)


def test_the_way_between_tensor_parallel_gpus_is_the_all_reduce_that_is_there_without_it() -> None:
    sliced, whole = (a_mixture(4, whole=each) for each in (False, True))
    assert whole.cost._replace(expert_gpus=1.0, expert_spread=0.0) == sliced.cost
    assert whole.gpus == sliced.gpus == 4


def test_what_was_never_measured_has_a_wider_interval_and_says_so() -> None:
    sliced, whole = (a_mixture(4, whole=each) for each in (False, True))
    assert whole.uncertainty > sliced.uncertainty
    assert "expert parallelism was never measured" in notes(whole, some_requests())
    assert not any("expert parallelism" in note for note in notes(sliced, some_requests()))


def test_experts_that_do_not_go_into_the_gpus_evenly_weigh_on_the_fullest() -> None:
    shape, gpu = a_public_model("Qwen3-30B-A3B"), find_gpu("H100")

    def weight(tensor: int, **flags: bool) -> float:
        config = EngineConfig(flags={"max-model-len": 8192, "tensor-parallel-size": tensor, **flags})
        return weights_gib(shape, memory_demand(shape, gpu, config))

    assert weight(4, **WHOLE) == weight(4)
    uneven = shape.evolve(layers=tuple(group.evolve(experts=126) for group in shape.layers))
    demand = memory_demand(uneven, gpu, EngineConfig(flags={"tensor-parallel-size": 4, **WHOLE}))
    assert weights_gib(uneven, demand) > weights_gib(uneven, demand.evolve(expert_parallel=False))


def test_a_dense_model_has_no_experts_to_spread() -> None:
    config = EngineConfig(flags={"max-model-len": 8192, "tensor-parallel-size": 2, **WHOLE})
    dense, pool = load_shape("llama-8b"), GpuPool(type="H200", count=2, price_usd_per_gpu_hour=1)
    with pytest.raises(DoesNotFit, match="it has no experts"):
        resolve(dense, "H200", config)
    (reason,) = objections(config, pool=pool, shape=dense, defaults={})
    assert "needs a mixture of experts" in reason
    assert objections(config, pool=pool, shape=a_public_model("Qwen3-30B-A3B"), defaults={}) == ()


def test_data_parallel_ranks_are_counted_in_gpus_with_their_experts_spread() -> None:
    config = EngineConfig(flags={"tensor-parallel-size": 2, "data-parallel-size": 4, **WHOLE})
    pool = GpuPool(type="H100", count=4, price_usd_per_gpu_hour=1)
    assert config.gpus_per_replica == 8
    (reason,) = objections(config, pool=pool, shape=a_public_model("Qwen3-30B-A3B"), defaults={})
    assert reason == "needs 8 GPUs, there are 4"
