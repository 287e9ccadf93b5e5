"""Read a step's records in a defined order, some at a look: what came before it, then what came in it.

A controller that starts anew reads them again in the same order, gateway by gateway, and comes to the same counts. No
look reads more than `MOST_A_LOOK`, so that the pass over everything else goes on meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from controlplane.domain.base import ServiceName
from controlplane.domain.door.routing import GatewayRecord
from controlplane.ports.gateways import Position, RecordFeed

BEFORE = timedelta(minutes=10)
"""How long before a step stable's requests are looked at, to learn how its misses follow each other."""
BACK_BYTES = 4 << 20
"""Of each gateway's records at most: some thousand requests, more than bets on what is expected ever count."""
MOST_A_LOOK = 10_000
"""Records, those of other services included: a third of a second."""


class Piece(NamedTuple):
    records: Sequence[GatewayRecord]
    before: bool  # finished before the step began


class StepReader:
    """How far one step's records were read. `behind` says that more of them are there."""

    def __init__(self, service: ServiceName, began: datetime) -> None:
        self._service, self._began = service, began
        self._start: Position | None = None
        self._history: Position = {}
        self._reached: Position = {}
        self._knows_history = False
        self.behind = True

    def news(self, records: RecordFeed) -> Iterator[Piece]:
        """Give what was not given yet, each piece once it was counted. Raises Unavailable."""
        self.behind, left = True, MOST_A_LOOK
        if self._start is None:
            self._history = records.place(since=self._began, back=BEFORE, most_bytes=BACK_BYTES)
            self._start = self._reached = records.place(since=self._began)
        since = self._began - BEFORE
        if not self._knows_history:
            for news in records.follow(self._service, since=since, position=self._history, until=self._start):
                yield Piece(news.records, before=True)
                self._history, left = news.position, left - news.read
                if left <= 0:
                    return
            self._knows_history = True
        for news in records.follow(self._service, since=since, position=self._reached):
            yield Piece(news.records, before=False)
            self._reached, left = news.position, left - news.read
            if left <= 0:
                return
        self.behind = False
