"""Which replica is far slower than the others of its revision, judged by answers of the same kind.

Only what a client cannot bend is looked at: the wait for an answer to begin, and a stream's first tokens, which fit
into buffers however slowly they are taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from statistics import median
from typing import NamedTuple

from controlplane.gateway.prefixes import BLOCK_TOKENS
from controlplane.gateway.tally import Tally

TIMES = 3.0
"""Slow is what takes so many times as long as the median of the others. Requests of one kind differ by less: of a
lognormal with a coefficient of variation of 0.5 one in a hundred is beyond it."""

_MOST, _LEAST = 64, 8
"""Answers of a kind that are remembered, and how many of other replicas are needed to say anything."""
_REMEMBERED_S = 60.0
_NEWS, _NEWS_S = 8, 10.0
"""What the others took is looked at again after so many answers of a kind, or seconds."""
_LEAST_WAIT_S, _LEAST_GAP_S = 0.25, 0.02
"""Slower by less than this nobody is: a process may wait so long for its core."""


class Sample(NamedTuple):
    """One time of an answer. `kind` names those that it may be compared with; `least_s` is what matters at all."""

    kind: tuple[str, str, int, int]
    seconds: float
    least_s: float


class _Took(NamedTuple):
    engine_id: str
    seconds: float
    at: float


class _Usual(NamedTuple):
    """The median of the others' times, None of too few; `number` and `at` say after which answer it was taken."""

    median_s: float | None
    number: int
    at: float


class _Kind:
    """Times of one kind. Medians are taken now and then: sorting takes longer than all else that is done here."""

    def __init__(self) -> None:
        self._lately: deque[_Took] = deque(maxlen=_MOST)
        self._usual: dict[str, _Usual] = {}
        self._number = 0

    def note(self, took: _Took) -> float | None:
        """Note a time and return the median of those of other replicas, None of too few."""
        usual = self._usual.get(took.engine_id)
        if usual is None or self._number - usual.number >= _NEWS or took.at - usual.at >= _NEWS_S:
            usual = self._usual[took.engine_id] = _Usual(self._median(took), self._number, took.at)
        self._lately.append(took)
        self._number += 1
        return usual.median_s

    def _median(self, took: _Took) -> float | None:
        begun = took.at - _REMEMBERED_S
        others = [each.seconds for each in self._lately if each.engine_id != took.engine_id and each.at > begun]
        return median(others) if len(others) >= _LEAST else None


class Paces:
    """How long answers of one revision took lately. Instants are monotonic seconds."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str, int, int], _Kind] = {}

    def is_slow(self, engine_id: str, samples: Iterable[Sample], now: float) -> bool | None:
        """Note an answer and say whether any of its times was far from what others took; None: nothing to compare."""
        verdicts = [self._judged(engine_id, sample, now) for sample in samples]
        known = [verdict for verdict in verdicts if verdict is not None]
        return any(known) if known else None

    def _judged(self, engine_id: str, sample: Sample, now: float) -> bool | None:
        kind = self._kinds.get(sample.kind)
        if kind is None:
            kind = self._kinds[sample.kind] = _Kind()
        usual = kind.note(_Took(engine_id, sample.seconds, now))
        return None if usual is None else sample.seconds > max(TIMES * usual, usual + sample.least_s)


def samples_of(tally: Tally, begun: float) -> Iterator[Sample]:
    """Yield the times of an answer that ended well, asked of its replica at `begun`.

    Alike are answers of one path, whole or streamed, to prompts of which a replica had about as much to read (within a
    factor of four), and in one piece also of about as many tokens.
    """
    watch, path = tally.watch, tally.call.path
    reads = _size(tally.call.expected_prompt_tokens - BLOCK_TOKENS * (tally.cached_blocks or 0))
    if watch is None:
        if tally.ended is not None:
            wrote = _size(tally.used[1])
            yield Sample((path, "whole", reads, wrote), tally.ended - begun, _LEAST_WAIT_S)
        return
    if watch.first_token_at is not None:
        yield Sample((path, "first", reads, 0), watch.first_token_at - begun, _LEAST_WAIT_S)
    if watch.paced_at is not None and watch.first_token_at is not None:
        yield Sample((path, "gap", 0, 0), (watch.paced_at - watch.first_token_at) / watch.PACED, _LEAST_GAP_S)


def _size(tokens: int) -> int:
    """Return a number of tokens to a factor of four; below 64 they are alike."""
    return max(0, tokens // 64).bit_length() // 2
