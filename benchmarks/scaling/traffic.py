"""A week of arrivals: a daily and weekly curve, the minutes of Azure's conversation trace, and bursts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loadtests.send.traces import load_trace

Floats = NDArray[np.float64]
TICK_S = 5
DAY_TICKS = 86_400 // TICK_S
_MINUTE_TICKS = 60 // TICK_S

_NIGHT = 0.2  # of the peak, at 4 in the morning
_WEEKEND = 0.6
_DAY_SD = 0.08  # between days, in the logarithm
_LATE_SD_H = 0.25  # how much earlier or later a day is
_BURSTS_A_DAY = 4.0
_BURST_S = (120.0, 900.0)
_BURST_RAMP_S = 60.0
_BLOCK_MINUTES = 10


def arrivals(days: int, *, peak_rps: float, seed: int) -> Floats:
    """Return requests arriving in each tick of `TICK_S` seconds, the first day a Sunday.

    `peak_rps` is the top of a weekday's smooth curve. On it lie the minutes of the trace (its counts per minute over
    their mean, in blocks of ten minutes drawn again and again), bursts whose heights are exponential beyond 1.2 times
    (mean 1.5: BurstGPT, Wang et al. 2024, finds bursts of this kind several times a day), and Poisson chance.
    """
    chance = np.random.default_rng(seed)
    rate = peak_rps * np.concatenate([_day(number, chance) for number in range(days)])
    rate *= _minutes(len(rate), chance) * _bursts(days, chance)
    return chance.poisson(rate * TICK_S).astype(np.float64)


def _day(number: int, chance: np.random.Generator) -> Floats:
    hours = np.arange(DAY_TICKS) * TICK_S / 3600 - chance.normal(0, _LATE_SD_H)
    # Lowest at 4:00, highest at 16:00, with the afternoon flatter than the night.
    wave = (1 - np.cos(2 * np.pi * (hours - 4) / 24)) / 2
    level = np.exp(chance.normal(0, _DAY_SD)) * (_WEEKEND if number % 7 in (0, 6) else 1.0)
    curve: Floats = level * (_NIGHT + (1 - _NIGHT) * wave**0.8)
    return curve


def _minutes(ticks: int, chance: np.random.Generator) -> Floats:
    at_s = load_trace("azure-llm-2023/conv").arrival_s
    counts = np.bincount((at_s // 60).astype(np.int64))[:-1].astype(np.float64)
    ratio = counts / counts.mean()
    found: list[Floats] = []
    while sum(map(len, found)) * _MINUTE_TICKS < ticks:
        begin = int(chance.integers(0, len(ratio) - _BLOCK_MINUTES))
        found.append(ratio[begin : begin + _BLOCK_MINUTES])
    repeated: Floats = np.repeat(np.concatenate(found), _MINUTE_TICKS)[:ticks]
    return repeated


def _bursts(days: int, chance: np.random.Generator) -> Floats:
    factor = np.ones(days * DAY_TICKS)
    for _ in range(int(chance.poisson(_BURSTS_A_DAY * days))):
        begin = int(chance.integers(0, len(factor)))
        length = int(chance.uniform(*_BURST_S) / TICK_S)
        ramp = np.minimum(1.0, np.arange(1, length + 1) * TICK_S / _BURST_RAMP_S)
        height = 0.2 + chance.exponential(0.3)
        end = min(len(factor), begin + length)
        factor[begin:end] = np.maximum(factor[begin:end], 1 + height * ramp[: end - begin])
    return factor
