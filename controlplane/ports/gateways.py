"""Live traffic: split, watched, recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Protocol

from controlplane.domain.ab_tests.ab_test import AbTestId
from controlplane.domain.base import RevisionId, ServiceName
from controlplane.domain.door.feedback import Feedback
from controlplane.domain.door.judging import Judged, Sample
from controlplane.domain.door.routing import GatewayRecord, InFlight, RoutingTable, ServiceRoute


class TrafficRouter(Protocol):
    """Splits live traffic. Gateways keep the last table they were given."""

    def apply(self, table: RoutingTable) -> None:
        """Give the table to every gateway. Raises Unavailable when one did not take it (the others still have it)."""

    def actual(self) -> Sequence[RoutingTable | None]:
        """Return the table each running gateway now uses, None for one that does not answer.

        Raises Unavailable when none answers.
        """


class FlightView(Protocol):
    """What the gateways are serving at this moment."""

    def flights(self) -> Sequence[InFlight]:
        """Return requests in flight at every gateway that answers, one part per gateway and revision.

        Raises Unavailable when no gateway answers.
        """


class HeldRequests(Protocol):
    """Requests that wait at gateways for the first replica of their service."""

    def await_held(self) -> bool:
        """Return True as soon as a request is held anywhere, False after some seconds without. Raises Unavailable."""


class GatewayNews(Protocol):
    """What the gateways know that the store does not: uses of keys, and what people are to be told."""

    def key_uses(self) -> Mapping[str, datetime]:
        """Return the last request of each key, by its name, at the gateways that answer, since they started."""

    def troubles(self) -> Mapping[str, Sequence[str]]:
        """Return what is wrong beyond a request, a sentence each, by the name of each gateway that answers."""


class CertificateView(Protocol):
    """How long the gateways can be trusted."""

    def certificates(self) -> Mapping[str, Mapping[str, datetime]]:
        """Return until when each certificate in use is good, by gateway that answers and whom it is shown to."""


class OpenGateway(NamedTuple):
    """Where a gateway is asked, and with which key; None: it asks for none, and answers this host only."""

    url: str
    api_key: str | None = None


class GatewayOpener(Protocol):
    def open(self, route: ServiceRoute, *, folder: Path) -> AbstractContextManager[OpenGateway]:
        """Run a gateway of one's own with this one route while inside.

        Its files go to `folder`. Raises Unavailable when it does not come up. It ends with the process that opened it.
        """


NO_TIME = timedelta(0)

Position = Mapping[str, int]
"""How far a reader of records has come; only the source that gave it understands it. Empty: nothing read yet."""


class News(NamedTuple):
    """A piece of the records not given before, and where to go on."""

    records: Sequence[GatewayRecord]
    position: Position
    read: int = 0
    """Records that were read for it, those of other services and times included: what it cost."""


class RecordFeed(Protocol):
    """Live request records as they come."""

    def place(self, *, since: datetime, back: timedelta = NO_TIME, most_bytes: int = 0) -> Position:
        """Return the position before what was finished at or after `since`; or `back` before, at most so many bytes.

        The same whenever it is asked, but for gateways and hours that have nothing yet: these are not in it. Costs
        some searching, however much there is. Raises Unavailable.
        """

    def follow(
        self, service: ServiceName, *, since: datetime, position: Position, until: Position | None = None
    ) -> Iterator[News]:
        """Give what was finished since `position` of requests that arrived at or after `since`, replayed ones too.

        `until` ends it there, and leaves out what is not in it.

        Costs what is new, and memory for a piece of it: keep the position of each piece with what was counted of it,
        and what fails on the way goes on from there. A piece may be empty. Records of one gateway come in the order in
        which its requests finished. Raises Unavailable.
        """


class Scores(NamedTuple):
    """People's scores not given before, and where to go on."""

    scores: Sequence[Feedback]
    position: Position


class ScoreFeed(Protocol):
    """What people thought of answers, as it comes."""

    def scores(self, *, since: datetime, position: Position) -> Scores:
        """Return what was given since `position`, at or after `since`, of all services. Raises Unavailable."""


class Judgements(NamedTuple):
    """What judge commands said that was not given before, and where to go on."""

    judged: Sequence[Judged]
    position: Position


class JudgedFeed(Protocol):
    """What judge commands said of sampled answers, as it comes."""

    def judged(self, service: ServiceName, *, since: datetime, position: Position) -> Judgements:
        """Return what was said since `position`, at or after `since`. Raises Unavailable."""


class Taken(NamedTuple):
    """Samples that the gateways had, which they have no longer, and how many they had no room for."""

    samples: Sequence[Sample]
    dropped: int


class SampleSource(Protocol):
    """Sampled answers at the gateways: text, given once and written nowhere."""

    def take_samples(self, test: AbTestId, *, most: int) -> Taken:
        """Take at most so many of one test's; gateways that do not answer are left out."""


class RecordSource(Protocol):
    """Live request records of the gateways."""

    def read(
        self, service: ServiceName, *, since: datetime, revision: RevisionId | None = None
    ) -> Sequence[GatewayRecord]:
        """Return finished requests of users that *arrived* at or after `since`, oldest first. Raises Unavailable."""


class RecentRecords(Protocol):
    """The latest requests of users, blocks of their prompts included: what a recording is made of."""

    def recent(
        self, service: ServiceName, *, since: datetime, before: datetime, most: int, most_bytes: int
    ) -> Sequence[GatewayRecord]:
        """Return the `most` latest finished requests that arrived in [since, before), oldest first. Raises Unavailable.

        None between the first and the last is left out: where `most_bytes` of records, of all services together, do
        not reach back to `since`, fewer are given.
        """
