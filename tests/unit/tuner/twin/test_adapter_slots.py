"""A batch holds at most `max-loras` distinct adapters, one that is not on the GPU is brought there, and places cost."""

from __future__ import annotations

import pytest

from controlplane.domain.engines.engine import EngineConfig
from tests.unit.tuner.twin.builders import a_setup, all_steps
from tuner.twin.engine import TwinEngine
from tuner.twin.gpus import find_gpu
from tuner.twin.memory import slot_gib
from tuner.twin.setup import EngineSetup, memory_demand, resolve
from tuner.twin.shapes import load_shape

SHAPE = load_shape("llama-8b")


def a_lora_setup(loras: int, rank: int = 16, **changes: object) -> EngineSetup:
    return a_setup({"enable-lora": True, "max-loras": loras, "max-lora-rank": rank}, **changes)


def served(setup: EngineSetup, adapters: list[str | None], *, tokens: int = 60) -> tuple[float, list[int]]:
    """Send a request for each adapter at once; return when all were done, and sequences in each step."""
    engine = TwinEngine(setup)
    for index, adapter in enumerate(adapters):
        engine.submit(index, prompt_tokens=100, max_tokens=tokens, now_s=0.0, adapter=adapter)
    steps = all_steps(engine)
    assert engine.running == engine.waiting == 0
    return steps[-1].end_s, [step.sequences for step in steps]


@pytest.mark.parametrize("loras", [1, 2, 4])
def test_so_many_adapters_share_a_batch(loras: int) -> None:
    _, together = served(a_lora_setup(loras), ["a", "b", "c", "d"])
    assert max(together) == loras


def test_whoever_waits_for_a_place_holds_nobody_back() -> None:
    _, together = served(a_lora_setup(1), ["a", "b", "a", None, "a"])
    assert max(together) == 4  # all but b's


def test_without_adapters_nothing_is_passed_over() -> None:
    plain, with_room = served(a_setup(), [None] * 8), served(a_lora_setup(1), [None] * 8)
    assert plain == with_room


def test_more_places_serve_many_adapters_sooner() -> None:
    names: list[str | None] = [f"a{index % 8}" for index in range(64)]
    took = {loras: served(a_lora_setup(loras), names)[0] for loras in (1, 2, 4, 8)}
    assert took[1] > 1.5 * took[2] > 1.5 * took[4]
    assert took[4] > took[8]


def test_an_adapter_used_longest_ago_makes_room_and_coming_back_costs() -> None:
    setup = a_lora_setup(1, adapter_swap_s=0.5)
    stays, _ = served(setup, ["a", "a"], tokens=1)
    goes, _ = served(setup, ["a", "b"], tokens=1)
    assert stays == pytest.approx(0.5, abs=0.1)
    assert goes == pytest.approx(1.0, abs=0.1)


def test_every_place_takes_its_part_of_the_memory_whatever_is_in_it() -> None:
    gpu = find_gpu("H200")
    config = EngineConfig(flags={"max-model-len": 8192, "enable-lora": True})
    demand = memory_demand(SHAPE, gpu, config)
    # of Llama 8B's seven products, rows and columns, rank 16, in 16 bits
    exact = 2 * 16 * 32 * sum(a + b for a, b in [(4096, 4096)] * 2 + [(4096, 1024)] * 2 + [(4096, 14336)] * 3)
    assert slot_gib(SHAPE, demand) * 2**30 == exact
    plain = resolve(SHAPE, "H200", EngineConfig(flags={"max-model-len": 8192})).memory
    eight = resolve(SHAPE, "H200", config.with_flags({"max-loras": 8, "max-lora-rank": 64})).memory
    assert plain.kv_gib - eight.kv_gib == pytest.approx(8 * 4 * exact / 2**30)
