"""Has live traffic left what a recommendation rests on? Lengths of prompts and answers, batch by batch. Pure.

A batch is at least 60 s and 100 requests. Its statistic is the logarithm of its mean length over the mean that the
capacity was measured with, and its error what the batch's own spread says, times `INFLATION` for requests that come in
sessions. One cumulative sum per direction (Page 1954) adds what goes beyond the slack: `TOLERANCE` (a change that no
fleet notices) or one error, whichever is more. It alarms above `THRESHOLD` errors.

False alarms: for independent normal batches the mean run to a false alarm of one such sum is
(exp(2kb) - 2kb - 1) / 2k^2 with k = 1 and b = THRESHOLD + 1.166 (Siegmund 1985, section 2.6): 2.3 million batches. Four
sums over a month of a batch a minute are 172,800: one false alarm in a year of traffic that stays as it was measured.
`benchmarks.drift` simulates it with skewed lengths in sessions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum

from pydantic import AwareDatetime, Field

from controlplane.domain.base import RevisionId, Value

BATCH_S = 60.0
BATCH_REQUESTS = 100
TOLERANCE = math.log(1.2)
THRESHOLD = 6.5
INFLATION = 2.5
_LEAST_ERROR = 0.01


class DriftPolicy(StrEnum):
    """What drift leads to."""

    OFF = "off"
    TELL = "tell"
    TUNE = "tune"  # a study of the traffic as it is now
    TUNE_AND_APPLY = "tune_and_apply"  # and a canary, when it recommends something


class DriftOptions(Value):
    policy: DriftPolicy = DriftPolicy.OFF
    cool_down_s: float = Field(default=86_400, ge=0, description="After drift was found nothing is found for so long.")


class Length(StrEnum):
    """What is watched."""

    PROMPT = "prompt_tokens"
    OUTPUT = "output_tokens"


class Sums(Value):
    """Of one length, requests not yet in a batch and both cumulative sums, in errors."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    up: float = 0.0
    down: float = 0.0
    mean: float | None = Field(default=None, description="Of the last whole batch.")
    cv: float | None = None


class Watch(Value):
    """What is remembered of one service."""

    revision: RevisionId | None = None
    began_at: AwareDatetime | None = Field(default=None, description="Of the batch that fills.")
    sums: Mapping[Length, Sums] = Field(default_factory=dict)
    found_at: AwareDatetime | None = None


class Drift(Value):
    """A length that is no longer what it was."""

    length: Length
    was: float
    now: float
    cv: float

    def __str__(self) -> str:
        return f"{self.length.value} are {self.now:.0f} on average, measured was {self.was:.0f}"


def added(watch: Watch, lengths: Mapping[Length, Sequence[int]]) -> Watch:
    """Return the watch with more requests in the batch that fills."""
    return watch.evolve(sums={each: _more(watch.sums.get(each, Sums()), lengths.get(each, ())) for each in Length})


def is_whole(watch: Watch, seconds: float) -> bool:
    """Say whether the batch that fills can be judged after so many seconds."""
    counts = [watch.sums[each].count for each in Length if each in watch.sums]
    return seconds >= BATCH_S and bool(counts) and min(counts) >= BATCH_REQUESTS


def judged(watch: Watch, was: Mapping[Length, float]) -> tuple[Watch, tuple[Drift, ...]]:
    """Return the watch with an empty batch, and the lengths whose sums went beyond the threshold by this one."""
    sums = {each: _judged(watch.sums.get(each, Sums()), was.get(each)) for each in Length}
    found = [
        Drift(length=each, was=was[each], now=one.mean, cv=one.cv or 0.0)
        for each, one in sums.items()
        if max(one.up, one.down) > THRESHOLD and one.mean is not None
    ]
    return watch.evolve(sums=sums), tuple(found)


def _more(sums: Sums, values: Sequence[int]) -> Sums:
    return sums.evolve(
        count=sums.count + len(values),
        total=sums.total + math.fsum(values),
        squares=sums.squares + math.fsum(float(each) ** 2 for each in values),
    )


def _judged(sums: Sums, was: float | None) -> Sums:
    if was is None or was <= 0 or sums.count < 2 or sums.total <= 0:
        return Sums(up=sums.up, down=sums.down, mean=sums.mean, cv=sums.cv)
    mean = sums.total / sums.count
    cv = math.sqrt(max(0.0, sums.squares / sums.count - mean**2)) / mean
    error = max(_LEAST_ERROR, INFLATION * cv / math.sqrt(sums.count))
    z, slack = math.log(mean / was) / error, max(1.0, TOLERANCE / error)
    return Sums(up=max(0.0, sums.up + z - slack), down=max(0.0, sums.down - z - slack), mean=mean, cv=cv)
