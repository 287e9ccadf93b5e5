"""Measure the load offered to a service: what arrives, whether or not anybody can serve it.

Records are written when a request ends, so arrivals follow from what is conserved: those of a while are the requests
that ended in it, and those in flight at its end less those in flight at its beginning.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from controlplane.domain.door.outcomes import Outcome, read_outcome, slowest_s
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.errors import Unavailable
from controlplane.domain.operations.autoscale import Load
from controlplane.domain.service import ServiceSpec
from controlplane.ports.gateways import FlightView, Position, RecordFeed

KEPT = timedelta(minutes=20)
_LATE_S = 15.0
"""A sample that is further from the beginning of a window than this leaves the window unmeasured."""

_NEVER_SERVED = frozenset({Outcome.REFUSED_BY_US, Outcome.REFUSED_BY_ENGINE})


class Sample(NamedTuple):
    """Totals since the meter began, and what was in flight. A refused request is no load: nobody is to serve it."""

    at: datetime
    ended: int
    told: int  # of these, those whose tokens are known
    prompt_tokens: int
    output_tokens: int
    judged: int  # those that can tell whether they met every limit
    missed: int
    in_flight: int
    ready: int


class LoadMeter:
    """Of one service. `look` often, `load` when a figure is wanted. A new one knows nothing until it has looked."""

    def __init__(self, *, records: RecordFeed, flights: FlightView) -> None:
        self._records = records
        self._flights = flights
        self._position: Position = {}
        self._since: datetime | None = None
        self._counted: Sample | None = None
        self._samples: deque[Sample] = deque()

    def look(self, spec: ServiceSpec, *, ready: int, now: datetime) -> None:
        """Take one sample. Raises Unavailable when records or gateways cannot be asked."""
        in_flight = sum(part.requests for part in self._flights.flights() if part.service == spec.name)
        # As far back as a request may have begun that is in flight now: its end must be counted too.
        self._since = self._since or now - timedelta(seconds=slowest_s(spec.gateway))
        counted = self._counted or Sample(now, 0, 0, 0, 0, 0, 0, 0, ready)
        for news in self._records.follow(spec.service, since=self._since, position=self._position):
            if self._samples:  # what ended before the first look was no load that anybody saw
                counted = self._counted = _plus(counted, news.records, spec)
            self._position = news.position
        self._samples.append(counted._replace(at=now, in_flight=in_flight, ready=ready))
        while self._samples[0].at < now - KEPT:
            self._samples.popleft()

    @property
    def in_flight(self) -> int | None:
        """Requests in flight at the last look; None when nobody has looked."""
        return self._samples[-1].in_flight if self._samples else None

    def load(self, seconds: float, spec: ServiceSpec) -> Load:
        """Return the load of the last while, engine time. Raises Unavailable when it was not watched so long."""
        first, last = self._ends(seconds)
        wall_s = (last.at - first.at).total_seconds()
        arrived = last.ended - first.ended + last.in_flight - first.in_flight
        if arrived < 0:
            raise Unavailable(
                "the offered load is not known", why=f"{-arrived} requests in flight ended without a record"
            )
        rate_rps = arrived / wall_s / spec.engine.time_lapse
        told = last.told - first.told
        mean = [(b - a) / told for a, b in zip(first[3:5], last[3:5], strict=True)] if told else [None, None]
        prompt, output = (None if each is None else rate_rps * each for each in mean)
        return Load(rate_rps=rate_rps, prompt_tps=prompt, output_tps=output)

    def judged(self, seconds: float) -> tuple[int, int, int] | None:
        """Return requests that can tell, misses, and replicas; None when these changed, or it was not watched."""
        try:
            first, last = self._ends(seconds)
        except Unavailable:
            return None
        counts = {each.ready for each in self._samples if each.at >= first.at}
        if len(counts) != 1 or last.ready < 1:
            return None
        return last.judged - first.judged, last.missed - first.missed, last.ready

    def _ends(self, seconds: float) -> tuple[Sample, Sample]:
        samples: Sequence[Sample] = self._samples
        if not samples:
            raise Unavailable("the offered load is not known", why="nobody has looked yet")
        last = samples[-1]
        begin = last.at - timedelta(seconds=seconds)
        first = min(samples, key=lambda each: abs((each.at - begin).total_seconds()))
        if abs((first.at - begin).total_seconds()) > min(_LATE_S, seconds / 3) or first.at >= last.at:
            raise Unavailable("the offered load is not known", why=f"it was not watched for {seconds:g} s")
        return first, last


def _plus(before: Sample, records: Sequence[GatewayRecord], spec: ServiceSpec) -> Sample:
    asked = [each for each in records if not each.retried and not each.replayed]
    readings = [(each, read_outcome(each, spec.slos.latency, time_lapse=spec.engine.time_lapse)) for each in asked]
    served = [(each, reading) for each, reading in readings if reading.outcome not in _NEVER_SERVED]
    told = [each for each, _ in served if each.prompt_tokens is not None and each.output_tokens is not None]
    judged = [reading for _, reading in served if reading.missed or not reading.untold]
    return before._replace(
        ended=before.ended + len(served),
        told=before.told + len(told),
        prompt_tokens=before.prompt_tokens + sum(each.prompt_tokens or 0 for each in told),
        output_tokens=before.output_tokens + sum(each.output_tokens or 0 for each in told),
        judged=before.judged + len(judged),
        missed=before.missed + sum(bool(reading.missed) for reading in judged),
    )
