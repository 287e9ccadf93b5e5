"""Emulated engines in virtual time: the twin under load, behind the metrics page that the emulator answers with."""

from __future__ import annotations

from controlplane.domain.engines.fleet import EngineSpec
from controlplane.emulator.boot import engine_setup
from controlplane.emulator.card import BusyMeter, card_of
from controlplane.emulator.flags import parse_command_line
from controlplane.emulator.metrics import EngineMetrics
from tuner.twin.engine import TwinEngine


class VirtualEngine:
    """One engine. `offer` requests, let time go by with `advance`, read its `page`."""

    def __init__(self, spec: EngineSpec) -> None:
        flags = [f"--{name}={value}" for name, value in spec.config.flags.items() if not name.startswith("emulator-")]
        settings = parse_command_line([spec.model, *flags], visible_devices=None)
        _, setup = engine_setup(settings)
        self._twin, self._busy, self._now_s = TwinEngine(setup), BusyMeter(), 0.0
        self._metrics = EngineMetrics(
            spec.served_name, setup.max_model_len, {}, {}, card_of("H200", setup, sleeps=False)
        )
        self._asked = 0

    def offer(self, prompt_tokens: int, output_tokens: int, *, at_s: float) -> None:
        self.advance(at_s)
        self._asked += 1
        self._twin.submit(self._asked, prompt_tokens=prompt_tokens, max_tokens=output_tokens, now_s=at_s)

    def advance(self, now_s: float) -> None:
        while (step := self._twin.next_step(now_s)) is not None:
            self._busy.add(step.start_s, step.end_s)
        self._now_s = now_s

    def page(self) -> str:
        """Return what it answers to a scrape now."""
        metrics, twin = self._metrics, self._twin
        metrics.running, metrics.waiting, metrics.kv_usage = twin.running, twin.waiting, twin.kv_usage
        metrics.busy_share = self._busy.share(self._now_s, running=twin.running > 0)
        metrics.preemptions = twin.counters.preemptions
        return metrics.text().decode()
