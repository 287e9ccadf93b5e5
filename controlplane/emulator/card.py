"""The GPUs that an emulated engine would hold, as a DCGM exporter would tell them.

Memory is the twin's: weights, what else a start takes, and the KV cache, which vLLM takes whole; asleep the first and
the last are given back. Utilisation is the share of the last emulated second in which a step ran. Power and temperature
are made up: a tenth of the board's limit when idle, all of it when always busy, 30 to 70 °C.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from controlplane.domain.engines.gpu import GpuReading
from tuner.twin.gpus import known_gpu
from tuner.twin.setup import EngineSetup

WINDOW_S = 1.0
IDLE_SHARE = 0.1
_COLD_C, _WARMER_C = 30.0, 40.0
_LIMIT_W: Mapping[str, float] = MappingProxyType(
    {"H200": 700.0, "H100": 700.0, "A100-80": 400.0, "A100-40": 400.0, "L40S": 350.0, "L4": 72.0, "T4": 70.0}
)
"""Board limits of the SXM or only boards, by NVIDIA's data sheets; of others no power is told."""


class Card(NamedTuple):
    """One GPU type under one engine, all of its GPUs alike. GiB and watts of one GPU."""

    gpus: int
    total_gib: float | None
    awake_gib: float
    asleep_gib: float
    limit_w: float | None

    def readings(self, busy_share: float, *, asleep: bool, leaked: float = 0.0) -> tuple[GpuReading, ...]:
        """Return what the GPUs say, numbered within the engine. `leaked` is the lost share of what was left free."""
        used_gib = self.asleep_gib if asleep else self.awake_gib
        used_gib += leaked * max(0.0, (self.total_gib or used_gib) - used_gib)
        drawn = IDLE_SHARE + (1 - IDLE_SHARE) * busy_share
        return tuple(
            GpuReading(
                str(number),
                memory_used_gib=used_gib,
                memory_total_gib=self.total_gib,
                utilisation_percent=100 * busy_share,
                power_w=None if self.limit_w is None else self.limit_w * drawn,
                temperature_c=_COLD_C + _WARMER_C * busy_share,
                throttled=(),
            )
            for number in range(self.gpus)
        )


def card_of(gpu: str, setup: EngineSetup, *, sleeps: bool) -> Card:
    """Return the GPUs of an engine. `sleeps`: with `--enable-sleep-mode` its memory can be given back."""
    sheet, plan = known_gpu(gpu), setup.memory
    awake_gib = plan.weights_gib + plan.overhead_gib + max(0.0, plan.kv_gib)
    return Card(
        gpus=setup.gpus,
        total_gib=None if sheet is None else max(sheet.memory_gib, awake_gib),
        awake_gib=awake_gib,
        asleep_gib=plan.overhead_gib if sleeps else awake_gib,
        limit_w=None if sheet is None else _LIMIT_W.get(sheet.name),
    )


class BusyMeter:
    """How much of the last second steps took, in the engine's own seconds; steps that overlap count once."""

    def __init__(self) -> None:
        self._spans: deque[tuple[float, float]] = deque()
        self._until_s = 0.0

    def add(self, start_s: float, end_s: float) -> None:
        """Take in a finished step."""
        start_s = max(start_s, self._until_s)
        if end_s > start_s:
            self._spans.append((start_s, end_s))
            self._until_s = end_s
        while self._spans and self._spans[0][1] < self._until_s - WINDOW_S:
            self._spans.popleft()

    def share(self, now_s: float, *, running: bool) -> float:
        """Return the share at a moment. `running`: a step that has not ended takes what came after the last one."""
        begin_s = now_s - WINDOW_S
        spans = [*self._spans, (self._until_s, now_s)] if running else list(self._spans)
        busy_s = sum(max(0.0, min(end_s, now_s) - max(start_s, begin_s)) for start_s, end_s in spans)
        return min(1.0, busy_s / WINDOW_S)
