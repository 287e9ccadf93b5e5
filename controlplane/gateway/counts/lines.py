"""What is counted, and how. A request asks of several lines at once and gets all of them or none."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

PLACE_RETRY_S = 1.0
"""When a place will be free nobody knows; asking again after a second costs little."""


class Kind(StrEnum):
    """How an amount comes back."""

    RATE = "rate"  # a bucket that holds a minute's worth and refills steadily
    SUM = "sum"  # never: its name holds the day or the month, and the next one has another name
    PLACES = "places"  # when the request is over


class Line(msgspec.Struct, frozen=True, gc=False):
    """One limit on a request's way and what the request asks of it.

    `limit` is per minute for a rate. `ends_in_s`: of a sum, when its day or month is over.
    """

    name: str
    kind: Kind
    limit: float
    amount: float
    ends_in_s: float = 0.0


class Standing(msgspec.Struct, frozen=True, gc=False):
    """How one line stands: what is left, and after how many seconds the request may pass (0: now)."""

    left: float
    wait_s: float


class Counts(Protocol):
    """Where it is counted. `lost`: where it should be counted cannot be reached, a share is kept here instead.

    `gateways` is how many count there, as last seen.
    """

    @property
    def gateways(self) -> int: ...

    @property
    def lost(self) -> bool: ...

    def take(self, lines: Sequence[Line]) -> Awaitable[Sequence[Standing]]:
        """Take every line's amount when all have room, else nothing; say how each stands, after the taking.

        A line whose limit is smaller than the amount gives it when it is full, and is owed the rest. It was taken when
        no line has to wait.
        """

    def settle(self, lines: Sequence[Line], used: Sequence[float]) -> None:
        """Put right what was taken, now that the request is over and it is known what it used; places come back."""


def has_passed(standings: Sequence[Standing]) -> bool:
    """Say whether everything was taken."""
    return max([standing.wait_s for standing in standings], default=0.0) <= 0
