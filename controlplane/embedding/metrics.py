"""What an embedding engine says of itself at `/metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from controlplane.embedding.batches import Batches

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class EmbeddingMetrics:
    """Gauges are of texts, and are read when asked for."""

    def __init__(self, served_name: str, batches: Batches) -> None:
        self._registry = CollectorRegistry()
        self._labels = {"model_name": served_name}
        self._gauge("num_texts_running", "Texts in batches being computed.", lambda: batches.running)
        self._gauge("num_texts_waiting", "Texts in the queue.", lambda: batches.waiting)
        names = list(self._labels)
        self._seconds = Histogram(
            "fleetune_embed:request_seconds", "A request.", names, buckets=_SECONDS, registry=self._registry
        ).labels(**self._labels)
        self._tokens = Counter("fleetune_embed:tokens", "Tokens embedded.", names, registry=self._registry).labels(
            **self._labels
        )
        self._refused = Counter("fleetune_embed:refused", "Requests refused.", names, registry=self._registry).labels(
            **self._labels
        )

    def answered(self, seconds: float, tokens: int) -> None:
        """Count one request that was answered."""
        self._seconds.observe(seconds)
        self._tokens.inc(tokens)

    def refused(self) -> None:
        """Count one request that could not be."""
        self._refused.inc()

    def text(self) -> bytes:
        """Return the page in Prometheus's text format."""
        return generate_latest(self._registry)

    def _gauge(self, name: str, says: str, read: object) -> None:
        gauge = Gauge(f"fleetune_embed:{name}", says, list(self._labels), registry=self._registry)
        gauge.labels(**self._labels).set_function(read)  # type: ignore[arg-type]  # int is a float to Prometheus
