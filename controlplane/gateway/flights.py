"""Requests being served at this moment: how many per revision, and how long they have waited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from controlplane.domain.base import RevisionId
from controlplane.domain.door.routing import InFlight
from controlplane.gateway.tally import Tally

MOST_TOLD = 2000
"""Waits told per revision, the longest ones: a tenth of 20,000 in flight, from which hanging ones count as a share."""

MOST_OF_A_SESSION = 2
"""Waits told of a session while others' requests are in flight too: a user of endless answers makes no engine hang."""


class Flights:
    """Knows every request from its record's stage on. Belongs to one event loop."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._flying: dict[int, Tally] = {}

    def began(self, tally: Tally) -> None:
        """Count a request, until it `ended`."""
        self._flying[id(tally)] = tally

    def ended(self, tally: Tally) -> None:
        """Count it no longer."""
        del self._flying[id(tally)]

    def told(self) -> Sequence[InFlight]:
        """Return what is in flight, by service and revision; requests that wait for a replica have none yet."""
        parts: dict[tuple[str, RevisionId | None], list[Tally]] = {}
        for tally in self._flying.values():
            parts.setdefault((tally.service, tally.revision), []).append(tally)
        return [self._part(service, revision, tallies) for (service, revision), tallies in parts.items()]

    def _part(self, service: str, revision: RevisionId | None, tallies: Sequence[Tally]) -> InFlight:
        now = self._monotonic()
        told = list(_of_many(tallies))
        streams = [now - t.arrived for t in told if t.call.stream and not (t.watch and t.watch.first_token_at)]
        silent = [(each, now - t.arrived) for t in told if (each := t.silent_s(now)) is not None]
        wholes = [now - t.arrived for t in told if not t.call.stream]
        return InFlight(
            service=service,
            revision=revision,
            requests=len(tallies),
            without_token_s=_longest(streams),
            begun_s=tuple((round(age, 3), round(each, 3)) for each, age in sorted(silent)[-MOST_TOLD:]),
            whole_s=_longest(wholes),
        )


def _of_many(tallies: Sequence[Tally]) -> Iterator[Tally]:
    """Give those of each session that came first, in the order in which they came; of one that is alone all."""
    sessions = {_session(tally) for tally in tallies}
    seen = Counter[str]()
    for tally in tallies:
        session = _session(tally)
        if session is not None:
            seen[session] += 1
        if session is None or len(sessions) == 1 or seen[session] <= MOST_OF_A_SESSION:
            yield tally


def _session(tally: Tally) -> str | None:
    return None if tally.split_up else tally.call.session_hash


def _longest(waits_s: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(each, 3) for each in sorted(waits_s)[-MOST_TOLD:])
