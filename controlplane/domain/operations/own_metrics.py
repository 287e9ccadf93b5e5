"""Numbers that gateways and the control plane tell of themselves, as they were kept. A look without a word is a gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from pydantic import AwareDatetime, Field

from controlplane.domain.base import Value

CONTROL = "control-plane"
"""Who tells what `GET /api/v1/metrics` shows; every other source is a gateway's name."""
OWN_PREFIX = "fleetune_"
_COUNTED = ("_total", "_count", "_sum", "_bucket")


class OwnPoint(NamedTuple):
    at: AwareDatetime
    value: float


class OwnSeries(Value):
    """One series of one source, the oldest point first."""

    source: str = Field(description="`control-plane`, or the name of a gateway.")
    name: str
    labels: Mapping[str, str]
    points: tuple[OwnPoint, ...]


def is_counter(name: str) -> bool:
    """Say whether a series only grows, and begins at 0 again with its process."""
    return name.endswith(_COUNTED)


def per_second(points: Sequence[OwnPoint]) -> tuple[OwnPoint, ...]:
    """Return how fast a counter grew up to each point but the first; one that fell was reset, and counts from 0."""
    rates = []
    for before, after in pairwise(points):
        added = after.value - before.value if after.value >= before.value else after.value
        seconds = (after.at - before.at).total_seconds()
        if seconds > 0:
            rates.append(OwnPoint(after.at, added / seconds))
    return tuple(rates)
