"""Traces over OTLP/HTTP, where the environment names a collector; otherwise nothing is imported and nothing costs.

The environment is OpenTelemetry's own: OTEL_EXPORTER_OTLP_ENDPOINT (and ..._HEADERS, which may hold a secret),
OTEL_TRACES_SAMPLER_ARG for the share of traces that are kept. A trace that a caller began is kept as the caller says.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from controlplane.domain.errors import InvalidInput

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

    from controlplane.telemetry.requests import RequestTrace

ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"
SHARE_VARIABLE = "OTEL_TRACES_SAMPLER_ARG"
DEFAULT_SHARE = 0.05

Told = str | int | float | bool | None


class Ended(NamedTuple):
    """How a request went. Instants are monotonic seconds, None where there was none; `error` None when it went well."""

    at: float
    told: Mapping[str, Told]
    error: str | None = None
    queued_s: float = 0.0
    first_token_at: float | None = None


_open: list[tuple[Tracer, Callable[[], None]]] = []
"""A tracer and what ends it, at most one: as a process has one log, it has one way out for its traces."""


def begin(process: str, environment: Mapping[str, str] = os.environ) -> None:
    """Let this process send its traces to the collector that the environment names; without one do nothing.

    Raises InvalidInput when OpenTelemetry is not installed or the share is none.
    """
    endpoint = environment.get(ENDPOINT_VARIABLE)
    if not endpoint or _open:
        return
    share = _share(environment.get(SHARE_VARIABLE, ""))
    require_installed()
    from controlplane.telemetry.provider import open_tracer

    _open.append(open_tracer(process, endpoint, share))


def end() -> None:
    """Send what waits, and trace no more."""
    while _open:
        _, shut = _open.pop()
        shut()


def require_installed() -> None:
    """Raise InvalidInput unless OpenTelemetry is installed."""
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace  # noqa: F401
    except ImportError as error:
        raise InvalidInput(
            "traces cannot be sent", why="OpenTelemetry is not installed", allowed="pip install 'fleetune[otel]'"
        ) from error


def request_tracing() -> Callable[..., RequestTrace] | None:
    """Return what begins the trace of a request; None while nobody collects them."""
    if not _open:
        return None
    from controlplane.telemetry.requests import RequestTrace

    return partial(RequestTrace, _open[0][0])


@contextmanager
def span(name: str, *, apart: bool = False, **told: Told) -> Iterator[None]:
    """Trace a block as one span, a child of the one around it unless `apart`; of an error its type is told."""
    if not _open:
        yield
        return
    from opentelemetry.context import Context

    begin_in = Context() if apart else None
    with _open[0][0].start_as_current_span(
        name, begin_in, record_exception=False, set_status_on_exception=False
    ) as one:
        note(one, **told)
        try:
            yield
        except Exception as error:
            fail(one, type(error).__name__)
            raise


def note(one: Span, **told: Told) -> None:
    """Add what is known to a span: `study_id=...` becomes fleetune.study_id. None is left out."""
    for name, value in told.items():
        if value is not None:
            one.set_attribute(f"fleetune.{name}", value)


def fail(one: Span, why: str) -> None:
    """Mark a span as failed."""
    from opentelemetry.trace import StatusCode

    one.set_status(StatusCode.ERROR, why)


def present_ids() -> Mapping[str, str]:
    """Return the ids of the trace and span around this line of code; nothing outside of any, or while none is made."""
    if not _open:
        return {}
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def _share(given: str) -> float:
    try:
        share = float(given or DEFAULT_SHARE)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise InvalidInput(f"{SHARE_VARIABLE}={given} is no share of traces", allowed="0 to 1")
    return share
