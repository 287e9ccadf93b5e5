"""Requests of the canary beside like ones of stable: as many in flight before them, as long, as much cached. Pure.

A canary replica that gets a tenth of its later load is quick whatever its flags. Where no replayed requests make up the
load, its misses are compared with those of stable's requests that came under the same circumstances: each canary
request is matched with `PER` of its stratum, whatever became of them, and what finds no like is left out. Both sides
then have the same mix of strata, and the judge's bounds hold for the two samples as for any other. What is in flight is
of the canary's own doing too: a slow one is busy and finds no like, so it may fail by all of its requests as well.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from typing import NamedTuple

from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.rollouts.analysis import Counts, Strata
from controlplane.domain.rollouts.hits import Hits

PER = 3
"""Stable's requests for one of the canary's: more would narrow bounds by little, and find a like less often."""
_WAITING = 100  # of a stratum and side: older ones are of another hour
_BYTES_PER_TOKEN = 4


class Stratum(NamedTuple):
    """Classes, each twice as wide as the one before (lengths: four times)."""

    ahead: int
    length: int
    cached: int  # thirds


def stratum_of(record: GatewayRecord) -> Stratum | None:
    """Return the circumstances of a request; None of a gateway that did not tell how many were before it."""
    if record.ahead is None:
        return None
    tokens = record.prompt_tokens or (record.prompt_bytes or 0) // _BYTES_PER_TOKEN
    blocks = len(record.prefix_blocks)
    cached = min(2, 3 * (record.cached_blocks or 0) // blocks) if blocks else 0
    return Stratum(record.ahead.bit_length(), tokens.bit_length() // 2, cached)


_Place = tuple[str, Stratum]  # a gateway, and a stratum there


class Matching:
    """Matches requests as they come, each with whether it missed a limit: a gateway's in the order of its file.

    Like is found at the same gateway, as what is in flight is what that gateway knows of: in which order gateways are
    read then changes nothing.
    """

    def __init__(self) -> None:
        self._canary, self._stable = Hits(), Hits()
        self._waiting: dict[_Place, deque[bool]] = defaultdict(lambda: deque(maxlen=_WAITING))  # whether each missed
        self._open: dict[_Place, deque[bool]] = defaultdict(lambda: deque(maxlen=_WAITING))
        self._seen = 0
        self._canary_ahead: Counter[int] = Counter()
        self._stable_ahead: Counter[int] = Counter()

    def see(self, record: GatewayRecord, *, missed: bool, of_canary: bool) -> None:
        stratum = stratum_of(record)
        if stratum is None:
            return
        place = record.gateway, stratum
        if of_canary:
            self._seen += 1
            self._canary_ahead[stratum.ahead] += 1
            self._open[place].append(missed)
        else:
            self._stable_ahead[stratum.ahead] += 1
            self._waiting[place].append(missed)
        self._match(place)

    def _match(self, place: _Place) -> None:
        mine, theirs = self._open[place], self._waiting[place]
        while mine and len(theirs) >= PER:
            self._canary.see(place[0], mine.popleft())
            for _ in range(PER):
                self._stable.see(place[0], theirs.popleft())

    def strata(self) -> Strata | None:
        """Return what was matched so far; None where gateways tell nothing to match by."""
        if not self._seen:
            return None
        most = max(self._canary_ahead)
        beyond = sum(count for ahead, count in self._stable_ahead.items() if ahead > most)
        return Strata(
            canary=_counts(self._canary),
            stable=_counts(self._stable),
            unmatched=self._seen - self._canary.n,
            busier=beyond / max(1, self._stable_ahead.total()),
        )


def _counts(hits: Hits) -> Counts:
    return Counts(requests=hits.n, slo_misses=hits.hits, errors=0, miss_runs=hits.runs())


def describe_strata(strata: Strata) -> str:
    """Return how far like was compared with like, and how far the load that the canary saw falls short."""
    said = f"{strata.canary.requests} canary requests beside {strata.stable.requests} like ones of stable's"
    return (
        f"{said} (as many in flight, as long, as much cached), {strata.unmatched} without a like; "
        f"{100 * strata.busier:.0f} % of stable's came with more in flight than any of the canary's"
    )
