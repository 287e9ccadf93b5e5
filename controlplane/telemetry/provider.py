"""OpenTelemetry's side: what a process's spans are made with, which traces are kept, and where they go."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, Tracer, TraceState
from opentelemetry.util.types import Attributes

COMMON = frozenset({"request", "controller.pass"})
"""Traces that come many times a second: of these a share is kept, of rare ones (a trial, a rollout's step) all."""


class KeepRare(Sampler):
    """Keeps every rare trace, and `share` of the common ones."""

    def __init__(self, share: float) -> None:
        self._some = TraceIdRatioBased(share)

    def should_sample(  # noqa: PLR0917 - the SDK's signature
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        by = self._some if name in COMMON else ALWAYS_ON
        return by.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return f"KeepRare({self._some.get_description()})"


def open_tracer(process: str, endpoint: str, share: float) -> tuple[Tracer, Callable[[], None]]:
    """Return this process's tracer, whose spans go to the collector in batches, and what ends it: the rest is sent."""
    resource = Resource.create({"service.name": f"fleetune-{process}", "service.namespace": "fleetune"})
    provider = TracerProvider(sampler=ParentBased(KeepRare(share)), resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")))
    return provider.get_tracer("fleetune"), provider.shutdown
