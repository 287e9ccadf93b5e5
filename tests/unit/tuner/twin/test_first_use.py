"""An engine that compiles at first use stalls once for each size of step, and is as fast as any other afterwards."""

from __future__ import annotations

import pytest

from controlplane.domain.base import EngineId, StudyId
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.launch import engine_spec
from controlplane.domain.owner import TrialOwner
from controlplane.domain.service import EmulatorOptions
from controlplane.emulator.flags import parse_command_line
from tests.builders_serving import a_spec
from tests.unit.tuner.twin.builders import a_setup, all_steps
from tuner.twin.engine import TwinEngine
from tuner.twin.first_use import FirstUse

STALL_S = 7.0


def served_s(first_use: FirstUse | None, *, prompt_tokens: int, max_tokens: int = 4) -> float:
    """Return when one request is done that comes to an idle engine, seconds."""
    engine = TwinEngine(a_setup(), first_use=first_use)
    engine.submit(1, prompt_tokens=prompt_tokens, max_tokens=max_tokens, now_s=0.0)
    return all_steps(engine)[-1].end_s


def test_the_first_step_of_each_size_waits_and_no_other() -> None:
    compiler, plain_s = FirstUse(STALL_S), served_s(None, prompt_tokens=100)
    # One step of 100 tokens, three of one: two sizes.
    assert served_s(compiler, prompt_tokens=100) == pytest.approx(plain_s + 2 * STALL_S, abs=0.1)
    assert served_s(compiler, prompt_tokens=100) == pytest.approx(plain_s)


def test_sizes_of_one_power_of_two_are_compiled_together() -> None:
    compiler = FirstUse(STALL_S)
    assert [compiler.stall_s(tokens) for tokens in (1, 2, 3, 4, 64, 127, 128)] == [7, 7, 0, 7, 7, 0, 7]


@pytest.mark.parametrize("stall_s", [0.0, 2.5])
def test_an_emulator_is_told_by_its_service_how_long_it_compiles(stall_s: float) -> None:
    spec = a_spec()
    engine = spec.engine.evolve(emulator=EmulatorOptions(startup_s=0, first_use_s=stall_s))
    config = EngineConfig(flags={"max-model-len": 8192})
    owner = TrialOwner(StudyId("chat-1"), 0)
    made = engine_spec(EngineId("e-1"), owner, model=spec.model, engine=engine, gpus=spec.gpus, config=config)
    assert ("emulator-first-use-s" in made.config.flags) is (stall_s > 0)
    settings = parse_command_line(["llama-8b", *made.config.to_args()], visible_devices=None)
    assert settings.first_use_s == stall_s
