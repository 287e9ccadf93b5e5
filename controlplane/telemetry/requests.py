"""The spans of one request at the gateway: the request, its wait in the queue, each attempt at an engine.

Times are known when the request is over, so spans are made then, of the notes that are kept anyway; only an attempt's
span begins before it, for its engine is told its id (W3C Trace Context). A request that is not sampled has no spans.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from opentelemetry.trace import Span, SpanKind, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from controlplane.telemetry.tracing import Ended, fail, note

W3C_HEADERS = ("traceparent", "tracestate")
_NS = 1_000_000_000
_W3C = TraceContextTextMapPropagator()


class RequestTrace:
    """Belongs to one request, which arrived at `at` by the clock and at `arrived` by the monotonic one, in seconds."""

    def __init__(self, tracer: Tracer, headers: Mapping[str, str], *, at: datetime, arrived: float) -> None:
        self._tracer = tracer
        self._zero_ns = int(at.timestamp() * _NS) - int(arrived * _NS)
        asked = _W3C.extract({name: headers[name] for name in W3C_HEADERS if name in headers})
        self._span = tracer.start_span("request", asked, kind=SpanKind.SERVER, start_time=self._ns(arrived))
        self._context = set_span_in_context(self._span)
        self._arrived = arrived
        self._attempt: Span | None = None

    def attempt(self, *, now: float, engine: str, revision: str) -> Mapping[str, str]:
        """Begin an attempt at an engine; return the headers by which the engine goes on with this trace."""
        context, carried = self._context, dict[str, str]()
        if self._span.is_recording():
            start_ns = self._ns(now)
            self._attempt = self._tracer.start_span("attempt", context, kind=SpanKind.CLIENT, start_time=start_ns)
            note(self._attempt, engine=engine, revision=revision)
            context = set_span_in_context(self._attempt)
        _W3C.inject(carried, context)
        return carried

    def attempt_failed(self, why: str, *, now: float) -> None:
        """End the attempt that sent the client nothing."""
        if self._attempt is not None:
            fail(self._attempt, why)
            self._attempt.end(self._ns(now))
            self._attempt = None

    def end(self, ended: Ended) -> None:
        """Send the request on to the collector."""
        if not self._span.is_recording():
            return
        if ended.queued_s > 0:
            queue = self._tracer.start_span("queue", self._context, start_time=self._ns(self._arrived))
            queue.end(self._ns(self._arrived + ended.queued_s))
        if ended.first_token_at is not None:
            self._span.add_event("first token", timestamp=self._ns(ended.first_token_at))
        note(self._span, **ended.told)
        for one in filter(None, (self._attempt, self._span)):
            if ended.error is not None:
                fail(one, ended.error)
            one.end(self._ns(ended.at))

    def _ns(self, instant: float) -> int:
        return self._zero_ns + int(instant * _NS)
