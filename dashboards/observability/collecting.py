"""Examples for what collects logs and traces: Promtail and Loki for JSON lines, a collector for OTLP spans. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

JOB = "fleetune"
LABELS = ("level", "process", "service")
"""Fields of a line that become labels of a stream: few values each. Ids of traces would make a stream a request."""
IDS = ("trace_id", "span_id")
"""Fields kept beside a line, and no labels."""
OTLP_PORT = 4318
LOKI_PORT = 3100
PROMTAIL_PORT = 9080


class Collected(NamedTuple):
    """Where logs lie and where they and traces go; without a place for traces the collector only prints of them."""

    logs: str = ".fleetune/logs"
    loki: str = f"http://127.0.0.1:{LOKI_PORT}"
    traces_to: str | None = None  # OTLP over HTTP, as Tempo and Jaeger take it


def promtail(where: Collected) -> dict[str, Any]:
    """Return Promtail's configuration: it follows each process's file and sends every line as it is."""
    return {
        "server": {"http_listen_address": "127.0.0.1", "http_listen_port": PROMTAIL_PORT, "grpc_listen_port": 0},
        "positions": {"filename": "promtail-positions.yml"},
        "clients": [{"url": f"{where.loki.rstrip('/')}/loki/api/v1/push"}],
        "scrape_configs": [
            {
                "job_name": JOB,
                "static_configs": [
                    {
                        "targets": ["localhost"],
                        "labels": {"job": JOB, "__path__": f"{where.logs.rstrip('/')}/*.log"},
                    }
                ],
                "pipeline_stages": [
                    {"json": {"expressions": {name: name for name in ("at", *LABELS, *IDS)}}},
                    {"timestamp": {"source": "at", "format": "RFC3339Nano"}},
                    {"labels": dict.fromkeys(LABELS, "")},
                    {"structured_metadata": dict.fromkeys(IDS, "")},
                ],
            }
        ],
    }


def loki() -> dict[str, Any]:
    """Return the configuration of one Loki on this host, which keeps a week in a folder."""
    return {
        "auth_enabled": False,
        "server": {"http_listen_address": "127.0.0.1", "http_listen_port": LOKI_PORT, "grpc_listen_port": 9096},
        "common": {
            "instance_addr": "127.0.0.1",
            "path_prefix": "loki",
            "replication_factor": 1,
            "ring": {"kvstore": {"store": "inmemory"}},
            "storage": {"filesystem": {"chunks_directory": "loki/chunks", "rules_directory": "loki/rules"}},
        },
        "schema_config": {
            "configs": [
                {
                    "from": "2024-01-01",
                    "store": "tsdb",
                    "object_store": "filesystem",
                    "schema": "v13",
                    "index": {"prefix": "index_", "period": "24h"},
                }
            ]
        },
        "limits_config": {"retention_period": "168h", "allow_structured_metadata": True},
        "compactor": {
            "working_directory": "loki/compactor",
            "retention_enabled": True,
            "delete_request_store": "filesystem",
        },
        "analytics": {"reporting_enabled": False},
    }


def collector(where: Collected) -> dict[str, Any]:
    """Return an OpenTelemetry collector's configuration: it takes OTLP over HTTP on this host, and scrapes nothing."""
    exporters: dict[str, Any] = {"debug": {"verbosity": "basic"}}
    if where.traces_to is not None:
        exporters = {"otlphttp": {"endpoint": where.traces_to.rstrip("/")}}
    return {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{OTLP_PORT}"}}}},
        "processors": {
            "memory_limiter": {"check_interval": "1s", "limit_mib": 256, "spike_limit_mib": 64},
            "batch": {"timeout": "1s"},
        },
        "exporters": exporters,
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {
                "traces": {
                    "receivers": ["otlp"],
                    "processors": ["memory_limiter", "batch"],
                    "exporters": list(exporters),
                }
            },
        },
    }
