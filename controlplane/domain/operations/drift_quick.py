"""Have lengths doubled or halved? Request by request, by the logarithms. Pure.

Beside the sums of batches (`drift`), which find any lasting change of the mean, a cumulative sum of the logarithm of
the likelihood ratio (Page 1954, Lorden 1971) of one declared change, twice or half as long, against none. Logarithms of
lengths stray far less than lengths do, so it needs a third of the requests; and they need to know how a mean of
lengths and the mean of their logarithms go together. That is learned of live traffic, as it does not change where all
lengths are so many times as long; what the lengths were measured to be is never learned.

Requests of one session are alike, so a further request of a session is worth what its session did not say yet: normal
logarithms with one learned correlation. Where clients name no sessions the sums of `BLOCK` requests are seen to stray
further than those of independent requests, and every step is divided by how much further: learned too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import Field

from controlplane.domain.base import Value

CHANGE = math.log(2.0)
THRESHOLD = 13.5
"""Of the logarithm of the likelihood ratio where `GAP_S` lie between requests, or more; where less do, as many times
more requests come in a month, and its logarithm is added. Chosen on seeds below 60 (decision 96)."""
GAP_S = 5.0
LEARNED_REQUESTS = 1_000
"""Requests after which a shape is trusted: its mean is known to 8 % at the lengths of Azure's conversations."""
MEMORY = 20_000
BLOCK = 200
_MOST_BLOCKS = 200
_MOST_APART = 2.0
_MOST_ALIKE, _LEAST_VARIANCE, _LEAST_GAP_S = 0.95, 0.01, 1e-4
_FIRST_INFLATION, _FIRST_BLOCKS = 6.25, 4
"""What sums of blocks are taken to stray until as many were seen, in variances: the square of what `drift` takes."""


class Length(NamedTuple):
    """Tokens of a request; how many its session had before, and the mean of their logarithms."""

    tokens: int
    before: int = 0
    before_log: float = 0.0


class Shape(Value):
    """What is learned of one length: running means over the last `MEMORY` requests or so."""

    count: int = 0
    mean: float = 0.0
    log: float = 0.0
    log_square: float = 0.0
    pairs: int = 0
    product: float = Field(
        default=0.0, description="Of a request and what its session had before, logarithms, centred."
    )
    blocks: int = _FIRST_BLOCKS
    inflation: float = _FIRST_INFLATION
    gap_s: float = Field(default=0.0, description="Between requests.")
    waited_s: float = Field(default=0.0, description="Since the last look with any.")

    @property
    def threshold(self) -> float:
        return THRESHOLD + max(0.0, math.log(GAP_S / max(self.gap_s, _LEAST_GAP_S)))

    @property
    def is_known(self) -> bool:
        return self.count >= LEARNED_REQUESTS and self.variance > _LEAST_VARIANCE

    @property
    def variance(self) -> float:
        return self.log_square - self.log**2

    @property
    def strays(self) -> float:
        """Return how many times the variance of independent requests sums have."""
        return max(1.0, self.inflation)

    @property
    def alike(self) -> float:
        """Return the correlation of requests of a session."""
        return min(_MOST_ALIKE, max(0.0, self.product / self.variance))

    def was_log(self, was: float) -> float:
        """Return the mean of logarithms of lengths of this shape whose mean is what was measured."""
        return math.log(was) - (math.log(self.mean) - self.log)


class Block(NamedTuple):
    """The score of requests and how much they say of a change, both without inflation."""

    requests: int = 0
    score: float = 0.0
    says: float = 0.0


class Sum(NamedTuple):
    """The logarithm of a likelihood ratio, and the requests since it last was zero: those after the change, if any."""

    value: float = 0.0
    requests: int = 0
    tokens: int = 0
    squares: int = 0

    @property
    def mean(self) -> float:
        return self.tokens / self.requests

    @property
    def cv(self) -> float:
        return math.sqrt(max(0.0, self.squares / self.requests - self.mean**2)) / self.mean


class Quick(Value):
    """Of one length: its shape, the block that fills, the one before it, and the sums for twice and half as long."""

    shape: Shape = Shape()
    fills: Block = Block()
    before: Block = Block()
    up: Sum = Sum()
    down: Sum = Sum()

    @property
    def changed(self) -> Sum | None:
        """Return the sum that says that lengths changed; None: neither does."""
        most = max(self.up, self.down, key=lambda each: each.value)
        return most if most.value > self.shape.threshold else None

    @property
    def begun(self) -> Quick:
        """Return both sums at zero, and the shape kept."""
        return Quick(shape=self.shape)


def seen(quick: Quick, lengths: Sequence[Length], was: float | None, seconds: float) -> Quick:
    """Return what is known after the requests of some more seconds.

    Nothing is summed up while the shape is not known, or what the mean `was`.
    """
    lengths = [each for each in lengths if each.tokens > 0]
    if quick.shape.is_known and was is not None and was > 0:
        quick = _summed(quick, lengths, quick.shape.was_log(was))
    return quick.evolve(shape=_learned(quick.shape, lengths, seconds))


def _summed(quick: Quick, lengths: Sequence[Length], was_log: float) -> Quick:
    shape, up, down = quick.shape, quick.up, quick.down
    variance, alike = shape.variance, shape.alike
    worth, half = CHANGE / shape.strays, CHANGE / 2
    scored = [_said(each, was_log, variance, alike) for each in lengths]
    for each, (score, says) in zip(lengths, scored, strict=True):
        up = _more(up, worth * (score - says * half), each.tokens)
        down = _more(down, worth * (-score - says * half), each.tokens)
    return _blocks(quick.evolve(up=up, down=down), scored)


def _more(before: Sum, step: float, tokens: int) -> Sum:
    value = before.value + step
    return Sum(value, before.requests + 1, before.tokens + tokens, before.squares + tokens**2) if value > 0 else Sum()


def _blocks(quick: Quick, scored: Sequence[tuple[float, float]]) -> Quick:
    """Return the shape that the blocks teach which fill by these scores."""
    shape, before, requests, total, says = quick.shape, quick.before, *quick.fills
    for score, information in scored:
        requests, total, says = requests + 1, total + score, says + information
        if requests >= BLOCK:
            block = Block(requests, total, says)
            shape, before = _strays(shape, before, block), block
            requests, total, says = Block()
    return quick.evolve(shape=shape, before=before, fills=Block(requests, total, says))


def _said(length: Length, was_log: float, variance: float, alike: float) -> tuple[float, float]:
    """Return the score of one request's logarithm given its session's before it, and how much it says: 1 / variance."""
    weight = alike * length.before / (1 + alike * (length.before - 1)) if length.before else 0.0
    shift, left = 1 - weight, variance * (1 - alike * weight)
    apart = math.log(length.tokens) - was_log - weight * (length.before_log - was_log)
    most = _MOST_APART * math.sqrt(left)
    apart = min(most, max(-most, apart))
    return shift * apart / left, shift**2 / left


def _strays(shape: Shape, before: Block, block: Block) -> Shape:
    """Learn how far sums of blocks stray, by their differences: a change is in one of them."""
    if not before.requests:
        return shape
    jump = (block.score - before.score) ** 2 / (block.says + before.says)
    blocks = min(shape.blocks + 1, _MOST_BLOCKS)
    return shape.evolve(blocks=blocks, inflation=shape.inflation + (jump - shape.inflation) / blocks)


def _learned(shape: Shape, lengths: Sequence[Length], seconds: float) -> Shape:
    waited_s = shape.waited_s + seconds
    if not lengths:
        return shape.evolve(waited_s=waited_s)
    shape = shape.evolve(waited_s=0.0, gap_s=_nearer(shape, len(lengths), waited_s))
    count, mean, log, square = shape.count, shape.mean, shape.log, shape.log_square
    pairs, product = shape.pairs, shape.product
    for each in lengths:
        count = min(count + 1, MEMORY)
        own = math.log(each.tokens)
        mean += (each.tokens - mean) / count
        log += (own - log) / count
        square += (own**2 - square) / count
        if each.before:
            pairs = min(pairs + 1, MEMORY)
            product += ((own - log) * (each.before_log - log) - product) / pairs
    return shape.evolve(count=count, mean=mean, log=log, log_square=square, pairs=pairs, product=product)


def _nearer(shape: Shape, requests: int, seconds: float) -> float:
    """Return the mean gap after so many requests within so many seconds more."""
    share = requests / min(shape.count + requests, MEMORY)
    return shape.gap_s + share * (seconds / requests - shape.gap_s)
