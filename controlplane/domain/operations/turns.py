"""Whose turn it is to be awake on GPUs that several services share. Pure.

At most so many are awake as the pool says. One more that is asked for takes the place of the least recently used one
that nobody asks now; where all are asked, of the one that has been awake the longest, once it had its turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from pydantic import AwareDatetime, Field

from controlplane.domain.base import ServiceName, Value
from controlplane.domain.operations.share_options import ShareOptions


class Turn(Value):
    """A service that may be awake."""

    service: ServiceName
    since: AwareDatetime


class Turns(Value):
    """Of one pool: written before anything is put to sleep or woken for it."""

    awake: tuple[Turn, ...] = ()
    clear: bool = Field(default=False, description="All others were seen asleep or gone: who may be awake may wake.")

    def has(self, service: ServiceName) -> bool:
        """Say whether a service may be awake, or is to be as soon as the others sleep."""
        return any(turn.service == service for turn in self.awake)


class Member(NamedTuple):
    """A service of the pool at this moment."""

    service: ServiceName
    options: ShareOptions
    waits_since: datetime | None = None  # the oldest request that is held for it was first seen then
    busy: bool = False  # requests are in its engine, or on their way there
    used_at: datetime | None = None  # when it was busy last, as far as is known
    ready_at: datetime | None = None  # since when its engine is ready; None: there is none yet
    settling: bool = False  # its engine starts or wakes, or has no traffic yet: it is let alone
    to_start: bool = False  # it has no engine, and nothing says that one would fail


def next_turns(turns: Turns, members: Sequence[Member], now: datetime) -> Turns:
    """Return whose turn it is from now on; the same value while nothing changes. One change at a time."""
    here = {member.service: member for member in members}
    left = tuple(turn for turn in turns.awake if turn.service in here)
    if left != turns.awake:
        return Turns(awake=left)
    if not turns.clear or not members:
        return turns
    room = min(member.options.awake for member in members) - len(turns.awake)
    if room < 0:
        return Turns(awake=_without_one(turns, [*_free_to_go(turns, here, now), *turns.awake]))
    asleep = [member for member in members if not turns.has(member.service)]
    if room > 0 and asleep:
        comer = next(_comers(asleep), asleep[0])
        return Turns(awake=(*turns.awake, Turn(service=comer.service, since=now)))
    for comer in _comers(asleep):
        goers = list(_goers(turns, here, now, waited_for=comer.waits_since is not None))
        if goers:
            return Turns(awake=(*_without_one(turns, goers), Turn(service=comer.service, since=now)))
    return turns


def given_back(turns: Turns, service: ServiceName, now: datetime) -> Turns:
    """Let a service keep its turn that cannot sleep: who came last has to do without."""
    last = max(turns.awake, key=lambda turn: turn.since, default=None)
    others = tuple(turn for turn in turns.awake if turn != last)
    return Turns(awake=(*others, Turn(service=service, since=now)))


def _comers(asleep: Sequence[Member]) -> Iterator[Member]:
    """Who wants to be awake: those asked for, the longest wait first; then those that never started."""
    asked = [(member.waits_since, member.service, member) for member in asleep if member.waits_since is not None]
    yield from (member for _, _, member in sorted(asked, key=lambda each: each[:2]))
    yield from (member for member in asleep if member.waits_since is None and member.to_start)


def _goers(turns: Turns, here: dict[ServiceName, Member], now: datetime, *, waited_for: bool) -> Iterator[Turn]:
    """Who may go to sleep for one more, the best first."""
    yield from _free_to_go(turns, here, now)
    if waited_for:
        old = [turn for turn in turns.awake if _awake_for(turn, here, now, here[turn.service].options.turn_s)]
        yield from sorted(old, key=lambda turn: turn.since)


def _free_to_go(turns: Turns, here: dict[ServiceName, Member], now: datetime) -> Sequence[Turn]:
    """Return those that nobody asks, the least recently used first."""
    idle = [
        turn
        for turn in turns.awake
        if not here[turn.service].busy and _awake_for(turn, here, now, here[turn.service].options.min_awake_s)
    ]
    return sorted(idle, key=lambda turn: here[turn.service].used_at or turn.since)


def _awake_for(turn: Turn, here: dict[ServiceName, Member], now: datetime, at_least_s: float) -> bool:
    """Say whether it was ready for so long in this turn."""
    member = here[turn.service]
    since = turn.since if member.ready_at is None else max(turn.since, member.ready_at)
    return not member.settling and now - since >= timedelta(seconds=at_least_s)


def _without_one(turns: Turns, goers: Sequence[Turn]) -> tuple[Turn, ...]:
    return tuple(turn for turn in turns.awake if turn != goers[0])
