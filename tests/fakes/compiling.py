"""EngineProber on the twin, for engines that compile at first use, in virtual time."""

from __future__ import annotations

from controlplane.domain.engines.fleet import Engine
from controlplane.domain.launch import without_emulator_flags
from controlplane.domain.studies.warm_up import Probe
from tests.fakes.fleet import FakeClock
from tests.fakes.twin_load import TwinLoadTester
from tuner.twin.engine import TwinEngine
from tuner.twin.first_use import FirstUse
from tuner.twin.setup import resolve
from tuner.twin.shapes import load_shape

_END_S = 1e12


class TwinProber:
    """Serves probes on llama-8b's twin; what an engine has compiled is what the load tester's levels find compiled."""

    def __init__(self, load: TwinLoadTester, clock: FakeClock, *, gpu: str = "H200") -> None:
        self._load, self._clock, self._gpu = load, clock, gpu
        self.asked: list[tuple[str, Probe, int]] = []

    def ask(self, engine: Engine, probe: Probe, *, seed: int, timeout_s: float) -> float:
        self.asked.append((str(engine.url), probe, seed))
        twin = self._twin(engine, self._load.compiled(engine.spec))
        for number in range(probe.prompts):
            twin.submit(number, prompt_tokens=probe.prompt_tokens, max_tokens=probe.answer_tokens, now_s=0)
        took_s = 0.0
        while (step := twin.next_step(_END_S)) is not None:
            took_s = max(took_s, *(each.at_s for each in step.emitted)) if step.emitted else took_s
        self._clock.go_on(took_s)
        return took_s

    def _twin(self, engine: Engine, first_use: FirstUse | None) -> TwinEngine:
        setup = resolve(load_shape("llama-8b"), self._gpu, without_emulator_flags(engine.spec.config))
        return TwinEngine(setup, first_use=first_use)
