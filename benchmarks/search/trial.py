"""One trial as a contestant pays for it: an engine start, then the real ladder on simulated levels.

Levels are not simulated request by request (that is what `ladder.py` beside this file does): a level at `rate` on a
configuration of true capacity c shows the pressure (rate / c · noise) ** steepness, and lasts as long as a level that
far from its limits lasted there. The steepness, the noise and the levels' seconds are assumptions, not measurements.
A start takes what real ones took (below), longer where nothing of its compile class was started before.
"""

from __future__ import annotations

import math
import random
from typing import NamedTuple

from benchmarks.search.truth import Truth
from tuner.ladder.ladder import Ladder, LadderOptions, Rung
from tuner.search.trial_time import compile_class

_START_S = {"llama-8b": 80.0, "llama-70b": 97.0, "qwen3-14b": 85.0, "qwen3-30b-a3b": 90.0}
"""On one GPU when its compile class was started before. 8B: real vLLM (docs/results/h200-2026-11-25.md); 70B: as much
longer as its starts were among the shipped profiles' measurements. The two Qwen shapes: assumed between."""
_FRESH_FACTOR = 1.46  # by the same study: 118 s when its class was not started before
_DOUBLING_FACTOR = 1.13  # per doubling of the GPUs, by the measurements' pairs
_START_NOISE = 0.08
OOM_START_S = 45.0  # an engine that runs out of memory says so after loading its weights
_NOISE = 0.02  # standard deviation of a level's log capacity
_STEEPNESS = 12.0
_CLEAR = 0.12  # log distance from the capacity beyond which a level ends early
LEVEL_S = 60.0
_EARLY_FAIL_S, _EARLY_PASS_S = 14.0, 22.0
_FLOOR_SHARE = 0.25


class Outcome(NamedTuple):
    """What a trial brought and cost. `measured_rps` None: it could not start, or was dropped at `failed_rps`."""

    row: int
    measured_rps: float | None
    failed_rps: float | None
    oom: bool
    gpu_seconds: float
    start_s: float | None = None
    levels_s: float | None = None
    rates_rps: tuple[float, ...] = ()


class Laboratory:
    """Runs trials on a scenario's truth. Seeded; the same for every contestant."""

    def __init__(self, truth: Truth, *, seed: int) -> None:
        self._truth = truth
        self._random = random.Random(seed)
        self._start_random = random.Random(f"starts {seed}")
        self._compiled = set[frozenset[tuple[str, object]]]()

    def run(self, row: int, *, beat_log_cost: float | None, forecast_rps: float | None) -> Outcome:
        """Start the configuration of a row and climb; `beat_log_cost` is the incumbent's, None while there is none."""
        gpus = self._truth.configs[row].gpus_per_replica
        if not self._truth.fits[row]:
            return Outcome(row, None, None, True, OOM_START_S * gpus)
        ladder = self._ladder(gpus, beat_log_cost, forecast_rps)
        capacity, load_s = float(self._truth.capacity_rps[row]), 0.0
        start_s = self.start_s(row)
        while (rate := ladder.next_rate()) is not None:
            rung, seconds = self._level(rate, capacity, ladder.may_pass_early(rate))
            ladder = ladder.climbed(rung)
            load_s += seconds
        found = None if ladder.is_dropped else ladder.capacity()
        failed = None if math.isinf(ladder.high_rps) else ladder.high_rps
        rps = found.rps if found else None
        rates = tuple(rung.rate_rps for rung in ladder.rungs)
        return Outcome(row, rps, failed, False, (start_s + load_s) * gpus, start_s, load_s, rates)

    def start_s(self, row: int) -> float:
        """Return what starting the configuration of a row takes, and keep what it compiled."""
        config = self._truth.configs[row]
        seconds = _START_S[self._truth.scenario.spec.model.name]
        doublings, noise = math.log2(config.gpus_per_replica), self._start_random.gauss(0, _START_NOISE)
        seconds *= math.exp(doublings * math.log(_DOUBLING_FACTOR) + noise)
        name = compile_class(config)
        fresh = name not in self._compiled
        self._compiled.add(name)
        return seconds * _FRESH_FACTOR if fresh else seconds

    def _ladder(self, gpus: int, beat_log_cost: float | None, forecast_rps: float | None) -> Ladder:
        spec = self._truth.scenario.spec
        useful = spec.slos.target_qps / max(1, spec.gpus.count // gpus)
        options = LadderOptions(floor_rps=useful * _FLOOR_SHARE)
        if beat_log_cost is None:
            return Ladder(options=options, start_rps=forecast_rps or useful, forecast_rps=forecast_rps)
        beat = gpus / math.exp(beat_log_cost)
        return Ladder(options=options, start_rps=beat, beat_rps=beat, forecast_rps=forecast_rps)

    def _level(self, rate: float, capacity: float, may_pass_early: bool) -> tuple[Rung, float]:
        distance = (math.log(rate / capacity) if capacity > 0 else 5.0) + self._random.gauss(0, _NOISE)
        pressure = math.exp(min(_STEEPNESS * distance, 5.0))
        fails_early, passes_early = distance > _CLEAR, may_pass_early and distance < -_CLEAR
        rung = Rung(
            rate_rps=rate,
            passed=pressure <= 1,
            certain=fails_early,
            pressure=pressure,
            whole=not passes_early,
        )
        return rung, _EARLY_FAIL_S if fails_early else _EARLY_PASS_S if passes_early else LEVEL_S
