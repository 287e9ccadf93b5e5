"""Who leads, of several that could: a lease that its holder renews and others take over once it is old. Pure.

The rules of Kubernetes' client-go (tools/leaderelection): a candidate trusts only its own clock. It remembers since
when it has seen a lease unchanged, and takes it over when that is longer than the lease lasts. A leader that could not
renew for `renew_s`, which is shorter, stops leading before anybody else may begin.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from controlplane.domain.base import Value


class Terms(NamedTuple):
    """Seconds: how long a lease lasts unrenewed, how long its holder tries to renew it, how often anybody looks."""

    lease_s: float = 15.0
    renew_s: float = 10.0
    retry_s: float = 2.0


class LeaseRecord(Value):
    """What a lease says. Times in it are of its writer's clock: they are compared for change, never with ours."""

    holder: str
    renewed: str
    transitions: int = 0


class Move(StrEnum):
    """What a candidate does next."""

    TAKE = "take"
    RENEW = "renew"
    WAIT = "wait"
    END = "end"  # it led, and does not any more: the process ends, so that nothing of it goes on


class Candidate(Value):
    """What one candidate knows. Instants are seconds of its own steady clock."""

    identity: str
    seen: LeaseRecord | None = None
    seen_at_s: float = 0.0
    renewed_at_s: float | None = None  # set while it leads: when it last renewed, counted from before it asked

    @property
    def leads(self) -> bool:
        return self.renewed_at_s is not None

    def saw(self, record: LeaseRecord | None, now_s: float) -> Candidate:
        """Return the candidate after a look at the lease; None is no lease, or one that its holder gave back."""
        if record == self.seen:
            return self
        return self.evolve(seen=record, seen_at_s=now_s)

    def wrote(self, record: LeaseRecord, asked_at_s: float) -> Candidate:
        """Return the candidate that has just taken or renewed the lease, having asked at `asked_at_s`."""
        return self.evolve(seen=record, seen_at_s=asked_at_s, renewed_at_s=asked_at_s)


def next_move(candidate: Candidate, terms: Terms, now_s: float) -> Move:
    """Return what to do, from what was last seen."""
    if candidate.renewed_at_s is not None:
        is_mine = candidate.seen is not None and candidate.seen.holder == candidate.identity
        in_time = now_s - candidate.renewed_at_s < terms.renew_s
        return Move.RENEW if is_mine and in_time else Move.END
    if candidate.seen is None or now_s - candidate.seen_at_s >= terms.lease_s:
        return Move.TAKE
    return Move.WAIT
