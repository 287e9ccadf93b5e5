"""The gateway's Prometheus metrics, in a registry of their own. Latencies in seconds, as Prometheus asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from aiohttp import web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from controlplane.domain.door.identity import PriorityClass
from controlplane.domain.door.latency_buckets import BUCKETS_S
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.slo import LatencyMetric
from controlplane.gateway.answers.collecting import Room
from controlplane.gateway.certificates import Certificates
from controlplane.gateway.counts.lines import Counts
from controlplane.gateway.gate import Gate
from controlplane.gateway.pools import Replica
from controlplane.gateway.routing import Routing
from controlplane.gateway.spool import RecordSpool

COUNTED_AT_ONCE = 16
"""One after the other records are counted in a third of the time that each takes in the middle of a request."""

MOST_REVISIONS = 200
"""Revisions told of, each with some hundred series; beyond it those that came first and are routed no longer go."""


class _Revision(NamedTuple):
    requests: dict[int, Counter]  # by status
    errors: dict[str, Counter]  # by failure class
    cache: dict[str, Counter]  # by result
    retries: Counter
    truncated: Counter
    gone: Counter
    tokens: Counter
    ttft: Histogram
    tpot: Histogram
    e2e: Histogram


class Metrics:
    """Counts finished requests; what is in flight and the table's version are looked up when scraped."""

    def __init__(
        self,
        routing: Routing,
        spool: RecordSpool,
        counts: Counts,
        gates: Mapping[str, Gate],
        certificates: Certificates,
        room: Room,
    ) -> None:
        self._registry = CollectorRegistry()
        self._routing = routing
        self._revisions: dict[tuple[str, str], _Revision] = {}
        self._uncounted: list[GatewayRecord] = []
        by_revision = ("service", "revision")
        self._requests = self._counter("requests", "Requests, by the status sent.", (*by_revision, "status"))
        self._errors = self._counter("errors", "Requests that failed, by failure class.", (*by_revision, "error"))
        self._retries = self._counter("retries", "Attempts that failed and were made again elsewhere.", by_revision)
        self._truncated = self._counter("truncated_streams", "Streams that ended before their end mark.", by_revision)
        self._gone = self._counter("client_gone", "Requests whose client hung up first.", by_revision)
        self._refused = self._counter("refused", "Requests refused before routing.", ("status", "code"))
        self._cache = self._counter("cache", "Requests looked up in the cache, by what it had.", ("service", "result"))
        self._flags = self._counter("flags", "Requests in which the policy found something.", ("service", "found"))
        self._tokens = self._counter("output_tokens", "Tokens passed on.", by_revision)
        self._ttft = self._histogram(
            "ttft_seconds", "Arrival to first token of a stream.", BUCKETS_S[LatencyMetric.TTFT]
        )
        self._tpot = self._histogram(
            "tpot_seconds", "Mean time per output token after the first.", BUCKETS_S[LatencyMetric.TPOT]
        )
        self._e2e = self._histogram("e2e_seconds", "Arrival to last token.", BUCKETS_S[LatencyMetric.E2E])
        self._registry.register(_Present(routing, spool, counts, gates))
        self._registry.register(_Certificates(certificates))
        self._registry.register(_Collecting(room))

    def page(self) -> web.Response:
        """Return the exposition text as Prometheus asks for it."""
        self._count_all()
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    def refuse(self, status: int, code: str) -> None:
        self._refused.labels(str(status), code).inc()

    def observe(self, record: GatewayRecord) -> None:
        """Count one finished request, or one failed attempt that was made again: at the latest when somebody looks."""
        self._uncounted.append(record)
        if len(self._uncounted) >= COUNTED_AT_ONCE:
            self._count_all()

    def _count_all(self) -> None:
        records, self._uncounted = self._uncounted, []
        for record in records:
            self._count(record)

    def _count(self, record: GatewayRecord) -> None:
        place = (record.service, record.revision or "")
        revision = self._of(place)
        if record.retried:
            revision.retries.inc()
            return
        if record.status not in revision.requests:
            revision.requests[record.status] = self._requests.labels(*place, str(record.status))
        revision.requests[record.status].inc()
        if record.error is not None:
            if record.error not in revision.errors:
                revision.errors[record.error] = self._errors.labels(*place, record.error)
            revision.errors[record.error].inc()
        self._sum(record, revision)
        for found in record.flags:
            self._flags.labels(record.service, found).inc()
        if record.cache is not None:
            if record.cache not in revision.cache:
                revision.cache[record.cache] = self._cache.labels(record.service, record.cache.value)
            revision.cache[record.cache].inc()

    def _of(self, place: tuple[str, str]) -> _Revision:
        """Return the metrics of a revision. Looking them up by labels takes longer than counting."""
        found = self._revisions.get(place)
        if found is None:
            self._forget_former()
            found = self._revisions[place] = _Revision(
                requests={},
                errors={},
                cache={},
                retries=self._retries.labels(*place),
                truncated=self._truncated.labels(*place),
                gone=self._gone.labels(*place),
                tokens=self._tokens.labels(*place),
                ttft=self._ttft.labels(*place),
                tpot=self._tpot.labels(*place),
                e2e=self._e2e.labels(*place),
            )
        return found

    def _forget_former(self) -> None:
        """Leave out the revisions that were counted first and are no longer routed, where there are too many."""
        if len(self._revisions) < MOST_REVISIONS:
            return
        routed = {(route.service, pool.revision) for route in self._routing.routes() for pool in route.pools}
        former = [place for place in self._revisions if place[1] and place not in routed]
        for place in former[: len(self._revisions) - MOST_REVISIONS + 1]:
            gone = self._revisions.pop(place)
            for each in (self._retries, self._truncated, self._gone, self._tokens, self._ttft, self._tpot, self._e2e):
                each.remove(*place)
            for status in gone.requests:
                self._requests.remove(*place, str(status))
            for error in gone.errors:
                self._errors.remove(*place, error)

    def _sum(self, record: GatewayRecord, revision: _Revision) -> None:
        if record.truncated:
            revision.truncated.inc()
        if record.client_gone:
            revision.gone.inc()
        if record.output_tokens:
            revision.tokens.inc(record.output_tokens)
        for histogram, value_ms in ((revision.ttft, record.ttft_ms), (revision.tpot, record.tpot_ms)):
            if value_ms is not None:
                histogram.observe(value_ms / 1000)
        if record.ok and not record.client_gone and record.e2e_ms is not None:
            revision.e2e.observe(record.e2e_ms / 1000)

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"fleetune_gateway_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        labels = ("service", "revision")
        return Histogram(f"fleetune_gateway_{name}", text, labels, registry=self._registry, buckets=buckets)


class _Present(Collector):
    """Gauges read at the moment of the scrape."""

    def __init__(self, routing: Routing, spool: RecordSpool, counts: Counts, gates: Mapping[str, Gate]) -> None:
        self._gates = gates
        self._routing = routing
        self._counts = counts
        self._spool = spool

    def collect(self) -> Iterator[Metric]:
        version = self._routing.table.version if self._routing.table else -1
        yield GaugeMetricFamily("fleetune_gateway_routing_table_version", "Version in use; -1: none.", version)
        yield GaugeMetricFamily("fleetune_gateway_records_dropped", "Records lost to a full disk.", self._spool.dropped)
        yield GaugeMetricFamily(
            "fleetune_gateway_limits_alone", "1: limits are this gateway's share, Redis is lost.", self._counts.lost
        )
        yield self._per_replica("in_flight", "Requests in flight.", lambda replica: replica.in_flight)
        yield self._per_replica("put_aside", "1: cannot be reached.", lambda replica: replica.breaker.failures > 0)
        yield self._per_replica(
            "ejected",
            "1: its answers failed, or were far slower than others'.",
            lambda replica: replica.breaker.ejections > 0,
        )
        yield self._weights()
        yield self._waiting()

    def _per_replica(self, name: str, text: str, value: Callable[[Replica], float]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"fleetune_gateway_{name}", text, labels=("revision", "engine"))
        for replica in self._routing.replicas():
            family.add_metric((replica.revision, replica.backend.engine_id), value(replica))
        return family

    def _waiting(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "fleetune_gateway_waiting", "Requests that wait for a place.", labels=("service", "class")
        )
        for service, gate in self._gates.items():
            for priority in PriorityClass:
                family.add_metric((service, priority), gate.queue.waiting(priority))
        return family

    def _weights(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "fleetune_gateway_weight_percent", "Share of traffic.", labels=("service", "revision")
        )
        for route in self._routing.routes():
            for pool in route.pools:
                family.add_metric((route.service, pool.revision), pool.weight_percent)
        return family


class _Certificates(Collector):
    """A gateway that serves plain HTTP has none, which is no zero."""

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates

    def collect(self) -> Iterator[Metric]:
        ends = self._certificates.ends()
        text = "Until when the certificate in use is good, Unix time, by whom it is shown to."
        family = GaugeMetricFamily("fleetune_gateway_certificate_end_seconds", text, labels=("shown_to",))
        for shown_to, end in ends.items():
            family.add_metric((shown_to,), end.timestamp())
        if ends:
            yield family


class _Collecting(Collector):
    """Copies of answers under way, for the cache and for judges."""

    def __init__(self, room: Room) -> None:
        self._room = room

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "fleetune_gateway_collecting_bytes", "Copies of answers under way that are to be kept.", self._room.taken
        )
        yield CounterMetricFamily(
            "fleetune_gateway_uncollected", "Answers not kept for want of room while under way.", self._room.refused
        )
