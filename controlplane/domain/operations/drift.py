"""Has live traffic left what a recommendation rests on? Signal by signal, batch by batch. Pure.

A batch is at least 60 s and 100 requests. Each signal's statistic is how far its batch lies from what was measured, in
errors of a batch: lengths and burstiness by the logarithm of their ratio, shares by their difference. The error is what
the batch's own spread says, times `INFLATION` for requests that come in sessions. One cumulative sum per direction
(Page 1954) adds what goes beyond the slack: a tolerance (a change that no fleet notices) or one error, whichever is
more. It alarms above `threshold` errors: `THRESHOLD` of batches of 60 s, less of longer ones.

False alarms: for independent normal batches the mean run to a false alarm of one such sum is
(exp(2kb) - 2kb - 1) / 2k^2 with k = 1 and b = THRESHOLD + 1.166 (Siegmund 1985, section 2.6): 2.3 million batches. Nine
sums over a month of a batch a minute are 388,800: one false alarm in half a year of traffic that stays as it was
measured. A month of longer batches has fewer of them, so the same promise asks less of each: `threshold` falls to where
`benchmarks.drift`, which simulates all signals with skewed lengths, sessions and runs of misses, finds as few.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, Field

from controlplane.domain.base import RevisionId, Value
from controlplane.domain.operations.drift_quick import Length, Quick, seen

BATCH_S = 60.0
BATCH_REQUESTS = 100
THRESHOLD = 6.5
_LONG_BATCH_S = 500.0
_LONG_THRESHOLD, _LONG_THRESHOLD_OF_LENGTHS, _LONG_THRESHOLD_OF_MISSES = 4.4, 5.4, 5.8
"""Of batches of so long and more. Misses are few in a batch, and few of them lie further out than many of anything.
Lengths that double are found by `drift_quick`, at false alarms that these sums then may not have."""
INFLATION = 2.5
TOLERANCE = math.log(1.2)
BURST_TOLERANCE = math.log(2.0)
PREFIX_TOLERANCE = 0.15
_LEAST_ERROR = 0.01
_EXPONENTIAL = 2.0
"""Standard deviation of sqrt(n) x the logarithm of the squared coefficient of variation of n exponential gaps."""


class DriftPolicy(StrEnum):
    """What drift leads to."""

    OFF = "off"
    TELL = "tell"
    TUNE = "tune"  # a study of the traffic as it is now
    TUNE_AND_APPLY = "tune_and_apply"  # and a canary, when it recommends something


class DriftOptions(Value):
    policy: DriftPolicy = DriftPolicy.OFF
    cool_down_s: float = Field(default=86_400, ge=0, description="After drift was found nothing is found for so long.")


class Signal(StrEnum):
    """What is watched, and of each request what is summed up."""

    PROMPT = "prompt_tokens"
    OUTPUT = "output_tokens"
    PREFIX = "prefix_share"  # of a prompt's blocks, those that an earlier prompt had
    BURSTS = "arrival_gaps"  # seconds since the request before; judged is their squared coefficient of variation
    MISSES = "misses"  # 1 for a request beyond a limit, at loads that a replica was measured to sustain

    @property
    def is_length(self) -> bool:
        return self in (Signal.PROMPT, Signal.OUTPUT)


class Sums(Value):
    """Of one signal, requests not yet in a batch and both cumulative sums, in errors."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    up: float = 0.0
    down: float = 0.0
    mean: float | None = Field(default=None, description="Of the last whole batch; of gaps their squared cv.")
    cv: float | None = None


class Watch(Value):
    """What is remembered of one service."""

    revision: RevisionId | None = None
    began_at: AwareDatetime | None = Field(default=None, description="Of the batch that fills.")
    sums: Mapping[Signal, Sums] = Field(default_factory=dict)
    quick: Mapping[Signal, Quick] = Field(default_factory=dict, description="Of lengths.")
    found_at: AwareDatetime | None = None

    @property
    def is_sudden(self) -> bool:
        """Say whether a length became twice or half what it was; it can be judged before the batch is whole."""
        return any(each.changed is not None for each in self.quick.values())

    def anew(self, **fields: Any) -> Watch:
        """Return a watch that has seen nothing but how lengths are distributed."""
        return Watch(quick={signal: each.begun for signal, each in self.quick.items()}, **fields)


class Drift(Value):
    """A signal that is no longer what it was."""

    signal: Signal
    was: float
    now: float
    cv: float

    def __str__(self) -> str:
        match self.signal:
            case Signal.PROMPT | Signal.OUTPUT:
                return f"{self.signal.value} are {self.now:.0f} on average, measured was {self.was:.0f}"
            case Signal.PREFIX:
                return f"{self.now:.0%} of the prompts are shared prefixes, measured was {self.was:.0%}"
            case Signal.BURSTS:
                return f"gaps between requests have a squared cv of {self.now:.2g}, measured was {self.was:.2g}"
            case Signal.MISSES:
                return f"{self.now:.1%} miss a limit at a load that was measured to be sustained, {self.was:.1%} may"


def added(watch: Watch, values: Mapping[Signal, Sequence[float]]) -> Watch:
    """Return the watch with more requests in the batch that fills."""
    return watch.evolve(sums={each: _more(watch.sums.get(each, Sums()), values.get(each, ())) for each in Signal})


def followed(
    watch: Watch, lengths: Mapping[Signal, Sequence[Length]], was: Mapping[Signal, float], seconds: float
) -> Watch:
    """Return the watch after the lengths of some more seconds, looked at one by one for a sudden change."""
    quick = {
        each: seen(watch.quick.get(each, Quick()), found, was.get(each), seconds) for each, found in lengths.items()
    }
    return watch.evolve(quick={**watch.quick, **quick})


def is_whole(watch: Watch, seconds: float) -> bool:
    """Say whether the batch that fills can be judged after so many seconds."""
    counts = [sums.count for each, sums in watch.sums.items() if each.is_length]
    return seconds >= BATCH_S and bool(counts) and min(counts) >= BATCH_REQUESTS


def threshold(signal: Signal, batch_s: float) -> float:
    """Return the errors above which a signal's sums of batches of so many seconds alarm."""
    share = math.log(max(1.0, batch_s / BATCH_S)) / math.log(_LONG_BATCH_S / BATCH_S)
    return THRESHOLD - min(1.0, share) * (THRESHOLD - _long_threshold(signal))


def _long_threshold(signal: Signal) -> float:
    match signal:
        case Signal.PROMPT | Signal.OUTPUT:
            return _LONG_THRESHOLD_OF_LENGTHS
        case Signal.MISSES:
            return _LONG_THRESHOLD_OF_MISSES
        case Signal.PREFIX | Signal.BURSTS:
            return _LONG_THRESHOLD


def judged(watch: Watch, was: Mapping[Signal, float], batch_s: float) -> tuple[Watch, tuple[Drift, ...]]:
    """Return the watch with an empty batch, and the signals whose sums went beyond the threshold by this one.

    `batch_s` is how long it took to fill.
    """
    sums = {each: _judged(each, watch.sums.get(each, Sums()), was.get(each)) for each in Signal}
    found = {
        each: Drift(signal=each, was=was[each], now=one.mean, cv=one.cv or 0.0)
        for each, one in sums.items()
        if max(one.up, one.down) > threshold(each, batch_s) and one.mean is not None
    }
    sudden = {each: sum_ for each, one in watch.quick.items() if each in was and (sum_ := one.changed) is not None}
    found |= {each: Drift(signal=each, was=was[each], now=one.mean, cv=one.cv) for each, one in sudden.items()}
    return watch.evolve(sums=sums), tuple(found[each] for each in Signal if each in found)


def _more(sums: Sums, values: Sequence[float]) -> Sums:
    return sums.evolve(
        count=sums.count + len(values),
        total=sums.total + math.fsum(values),
        squares=sums.squares + math.fsum(float(each) ** 2 for each in values),
    )


def _judged(signal: Signal, sums: Sums, was: float | None) -> Sums:
    kept = Sums(up=sums.up, down=sums.down, mean=sums.mean, cv=sums.cv)
    if was is None or sums.count < BATCH_REQUESTS - 1:
        return kept
    mean = sums.total / sums.count
    spread = math.sqrt(max(0.0, sums.squares / sums.count - mean**2))
    match signal:
        case Signal.PROMPT | Signal.OUTPUT:
            return kept if was <= 0 or mean <= 0 else _length(sums, mean, spread / mean, was)
        case Signal.BURSTS:
            return kept if was <= 0 or mean <= 0 or spread <= 0 else _bursts(sums, (spread / mean) ** 2, was)
        case Signal.PREFIX:
            return _summed(sums, mean - was, spread, PREFIX_TOLERANCE).evolve(mean=mean)
        case Signal.MISSES:  # fewer than may be are no drift
            return _summed(sums, mean - was, math.sqrt(was * (1 - was)), was).evolve(mean=mean, down=0.0)


def _length(sums: Sums, mean: float, cv: float, was: float) -> Sums:
    return _summed(sums, math.log(mean / was), cv, TOLERANCE).evolve(mean=mean, cv=cv)


def _bursts(sums: Sums, cv2: float, was: float) -> Sums:
    spread = _EXPONENTIAL * max(1.0, math.sqrt(was))
    return _summed(sums, math.log(cv2 / was), spread, BURST_TOLERANCE).evolve(mean=cv2)


def _summed(sums: Sums, apart: float, spread: float, tolerance: float) -> Sums:
    """Add one batch to both sums: how far it lies apart, and the spread of single requests."""
    error = max(_LEAST_ERROR, INFLATION * spread / math.sqrt(sums.count))
    z, slack = apart / error, max(1.0, tolerance / error)
    return Sums(up=max(0.0, sums.up + z - slack), down=max(0.0, sums.down - z - slack))
