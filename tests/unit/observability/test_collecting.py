"""The examples for logs and traces: what they name is in our lines, and every part is one that its program knows."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from controlplane.cli.main import app
from controlplane.telemetry.logs import JsonLine, ids
from dashboards.observability.collecting import IDS, LABELS, Collected
from dashboards.observability.files import Where, files
from tests.builders_serving import a_spec

SERVICE = str(Path(__file__).parents[3] / "examples" / "cpu" / "embeddings.yaml")
RFC_3339_NANO = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)"
TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
PORT: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 65535}
URL: dict[str, Any] = {"type": "string", "pattern": "^https?://[^/]+(/.*[^/])?$"}
DURATION: dict[str, Any] = {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"}


def exactly(**parts: Any) -> dict[str, Any]:
    """Return the schema of an object with these keys, all of them, and no other: a misspelt one stops a program."""
    return {"type": "object", "properties": parts, "required": list(parts), "additionalProperties": False}


def one(part: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": part, "minItems": 1, "maxItems": 1}


def only(value: Any) -> dict[str, Any]:
    return {"const": value}


_SERVER = exactly(http_listen_address=only("127.0.0.1"), http_listen_port=PORT, grpc_listen_port=PORT)
_SOURCE = exactly(targets=one(only("localhost")), labels=exactly(job=TEXT, __path__={"pattern": r"^/.*/\*\.log$"}))
_STAGES = [
    exactly(json=exactly(expressions={"type": "object", "additionalProperties": TEXT})),
    exactly(timestamp=exactly(source=only("at"), format=only("RFC3339Nano"))),
    exactly(labels={"type": "object", "additionalProperties": only("")}),
    exactly(structured_metadata={"type": "object", "additionalProperties": only("")}),
]
_JOB = exactly(
    job_name=TEXT, static_configs=one(_SOURCE), pipeline_stages={"prefixItems": _STAGES, "minItems": 4, "maxItems": 4}
)
_PERIOD = {
    "from": {"pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
    "store": only("tsdb"),
    "object_store": only("filesystem"),
    "schema": only("v13"),
    "index": exactly(prefix=TEXT, period=only("24h")),
}
_EXPORTERS = {
    "oneOf": [exactly(debug=exactly(verbosity=only("basic"))), exactly(otlphttp=exactly(endpoint=URL))],
}
SCHEMAS = {
    "promtail.yml": exactly(
        server=_SERVER,
        positions=exactly(filename=TEXT),
        clients=one(exactly(url=URL | {"pattern": "^https?://[^/]+/loki/api/v1/push$"})),
        scrape_configs=one(_JOB),
    ),
    "loki.yml": exactly(
        auth_enabled=only(False),
        server=_SERVER,
        common=exactly(
            instance_addr=only("127.0.0.1"),
            path_prefix=TEXT,
            replication_factor=only(1),
            ring=exactly(kvstore=exactly(store=only("inmemory"))),
            storage=exactly(filesystem=exactly(chunks_directory=TEXT, rules_directory=TEXT)),
        ),
        schema_config=exactly(configs=one(exactly(**_PERIOD))),
        limits_config=exactly(retention_period=DURATION, allow_structured_metadata=only(True)),
        compactor=exactly(
            working_directory=TEXT, retention_enabled=only(True), delete_request_store=only("filesystem")
        ),
        analytics=exactly(reporting_enabled=only(False)),
    ),
    "otel-collector.yml": exactly(
        receivers=exactly(otlp=exactly(protocols=exactly(http=exactly(endpoint=only("127.0.0.1:4318"))))),
        processors=exactly(
            memory_limiter=exactly(check_interval=DURATION, limit_mib=PORT, spike_limit_mib=PORT),
            batch=exactly(timeout=DURATION),
        ),
        exporters=_EXPORTERS,
        service=exactly(
            telemetry=exactly(metrics=exactly(level=only("none"))),
            pipelines=exactly(traces=exactly(receivers={}, processors={}, exporters={})),
        ),
    ),
}


def written(**collected: str) -> dict[str, Any]:
    where = Where("http://a", ["b:1"], collected=Collected(**{"logs": "/data/logs"} | collected))
    return {name: yaml.safe_load(text) for name, text in files([a_spec()], where).items() if name in SCHEMAS}


@pytest.mark.parametrize("traces_to", [{}, {"traces_to": "http://tempo.example:4318/"}])
@pytest.mark.parametrize("name", SCHEMAS)
def test_every_part_is_one_that_its_program_knows(name: str, traces_to: dict[str, str]) -> None:
    found = written(**traces_to)[name]
    assert [each.message for each in Draft202012Validator(SCHEMAS[name]).iter_errors(found)] == []


def test_every_schema_refuses_what_is_misspelt() -> None:
    for name, found in written().items():
        assert list(Draft202012Validator(SCHEMAS[name]).iter_errors(found | {"sever": {}}))


def test_a_collector_takes_spans_over_http_and_scrapes_nothing() -> None:
    for traces_to in ({}, {"traces_to": "http://tempo.example:4318"}):
        found = written(**traces_to)["otel-collector.yml"]
        assert set(found["service"]["pipelines"]) == {"traces"}
        for kind, named in found["service"]["pipelines"]["traces"].items():
            assert named == list(found[kind]), "each part is used, in its order, and none is missing"


def a_line() -> dict[str, Any]:
    record = logging.LogRecord("some.place", logging.WARNING, "file.py", 1, "a rollout began", (), None)
    record.__dict__.update(ids(service="chat"))
    found: dict[str, Any] = json.loads(JsonLine("controller").format(record))
    return found


def test_what_promtail_reads_of_a_line_is_what_our_processes_write() -> None:
    reads, times, labels, beside = written()["promtail.yml"]["scrape_configs"][0]["pipeline_stages"]
    line, expressions = a_line(), reads["json"]["expressions"]
    assert set(expressions) - set(IDS) <= set(line), "the ids of a trace are in lines within one only"
    assert all(name == expression for name, expression in expressions.items())
    assert (set(labels["labels"]), set(beside["structured_metadata"])) == (set(LABELS), set(IDS))
    assert set(labels["labels"]) | set(beside["structured_metadata"]) <= set(expressions)
    assert re.fullmatch(RFC_3339_NANO, line[times["timestamp"]["source"]])


def test_no_id_and_no_text_is_a_label() -> None:
    assert not {"event", "trace_id", "span_id", "subject", "actor", "pid"} & set(LABELS)


def test_the_command_names_the_logs_by_their_whole_path(tmp_path: Path) -> None:
    logs = tmp_path / "installation" / "logs"
    words = ["--logs", str(logs), "--loki", "https://loki.example/", "--traces-to", "http://tempo.example:4318"]
    done = CliRunner().invoke(app, ["observability", "write", str(tmp_path / "out"), "-f", SERVICE, *words])
    assert done.exit_code == 0, done.output
    found = yaml.safe_load((tmp_path / "out" / "promtail.yml").read_text())
    assert found["clients"][0]["url"] == "https://loki.example/loki/api/v1/push"
    assert found["scrape_configs"][0]["static_configs"][0]["labels"]["__path__"] == f"{logs}/*.log"
    assert "http://tempo.example:4318" in (tmp_path / "out" / "otel-collector.yml").read_text()


@pytest.mark.parametrize("option", ["--loki", "--traces-to"])
def test_what_is_no_url_is_refused_before_anything_is_written(tmp_path: Path, option: str) -> None:
    done = CliRunner().invoke(
        app, ["observability", "write", str(tmp_path / "out"), "-f", SERVICE, option, "127.0.0.1:3100"]
    )
    assert (done.exit_code, type(done.exception)) == (2, SystemExit)
    assert f"{option} '127.0.0.1:3100' is no URL" in done.output
    assert not (tmp_path / "out").exists()
