"""`fleetune predict`, `calibrate`, `twin validate` and `twin fit`, as a user types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from controlplane.cli import twin
from controlplane.cli.flags import parse_flags
from controlplane.domain.errors import InvalidInput
from tests.unit.tuner.twin.test_validation_and_fit import a_file

SERVICE = """
name: chat
model: {name: llama-8b, path: llama-8b}
engine: {kind: vllm, flags: {max-model-len: 8192}}
gpus: {type: H200, count: 8, price_usd_per_gpu_hour: 4}
workload:
  kind: synthetic
  prompt_tokens: {mean: 800, cv: 0.5}
  output_tokens: {mean: 100, cv: 0.5}
slos:
  latency: [{metric: ttft_ms, percentile: 99, limit_ms: 800}]
  target_qps: 60
"""


def run(*words: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command("predict")(twin.predict)
    app.command("calibrate")(twin.calibrate)
    app.add_typer(twin.app, name="twin")
    result = CliRunner().invoke(app, list(words))
    return result.exit_code, result.output if result.exit_code else result.stdout  # stderr may say that it takes long


@pytest.fixture
def service(tmp_path: Path) -> str:
    file = tmp_path / "service.yaml"
    file.write_text(SERVICE)
    return str(file)


def test_predict_prints_latencies_capacity_and_cost(service: str) -> None:
    code, text = run("predict", "-f", service, "--rate", "10", "--curve")
    assert code == 0
    for words in ("P99 TTFT", "P50 TPOT", "capacity at the SLOs", "replicas", "USD per million tokens", "req/s"):
        assert words in text


def test_predict_gives_json_to_programs(service: str) -> None:
    code, text = run("predict", "-f", service, "--json", "--set", "max-num-seqs=64")
    answer = json.loads(text)
    assert code == 0
    assert answer["config"]["flags"]["max-num-seqs"] == 64
    assert answer["capacity"]["rps"] > 0
    assert answer["point"]["latency"]["ttft_ms_p99"]["value"] > 0


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_predict_answers_in_the_form_that_is_asked_for(
    service: str, form: str, read: Callable[[str], dict[str, Any]]
) -> None:
    code, text = run("predict", "-f", service, "-o", form)
    assert code == 0
    assert read(text)["capacity"]["rps"] > 0


def test_predict_names_what_it_was_asked_about(service: str) -> None:
    assert run("predict", "-f", service, "-o", "name") == (0, "chat\n")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--rate", "-1"), "rate_rps: Input should be greater than 0"),
        (("--set", "max-nm-seqs=20"), "there is no --max-nm-seqs, did you mean --max-num-seqs?"),
    ],
)
def test_predict_refuses_what_cannot_be(service: str, words: tuple[str, str], complaint: str) -> None:
    code, text = run("predict", "-f", service, *words)
    assert code == 2
    assert complaint in " ".join(text.split())


def test_predict_says_why_an_engine_would_not_start(service: str) -> None:
    code, text = run("predict", "-f", service, "--set", "gpu-memory-utilization=0.1")
    assert code == 0
    assert "does not start" in text


@pytest.mark.parametrize(
    "words",
    [("--set", "nonsense"), ("--profile", "nobody"), ("--set", "max-num-seqs=many")],
)
def test_predict_answers_bad_input_with_one_message(service: str, words: tuple[str, str]) -> None:
    code, text = run("predict", "-f", service, *words)
    assert code == 2
    assert text.startswith("error: ")
    assert "Traceback" not in text


def test_a_profile_of_another_engine_version_is_refused(service: str, tmp_path: Path) -> None:
    pinned = tmp_path / "pinned.yaml"
    pinned.write_text(SERVICE.replace("{kind: vllm,", "{kind: vllm, version: 0.31.0,"))
    code, text = run("predict", "-f", str(pinned), "--profile", "h200-llama-8b-bf16-tp1")
    assert code == 2
    assert "0.26.0, not 0.31.0" in text


def test_calibrating_nobody_is_one_message() -> None:
    words = ("--target", "http://127.0.0.1:9", "--gpu", "H200", "--model", "llama-8b", "--name", "x")
    code, text = run("calibrate", *words, "--set", "max-model-len=8192")
    assert code == 2
    assert "no engine answers" in text


def test_validate_prints_every_cell_and_writes_the_report(tmp_path: Path) -> None:
    (tmp_path / "measured").mkdir()
    a_file(tmp_path / "measured")
    report = tmp_path / "report.json"
    code, text = run("twin", "validate", str(tmp_path / "measured"), "--json", str(report))
    written = json.loads(report.read_text())
    assert code == 0
    assert "median error" in text
    assert {"median_abs_error", "p90_abs_error", "cells"} <= set(written)
    assert {"id", "workload", "rate_rps", "metric", "measured", "predicted"} <= set(written["cells"][0])


def test_validating_an_empty_folder_is_one_message(tmp_path: Path) -> None:
    code, text = run("twin", "validate", str(tmp_path))
    assert code == 2
    assert "no measurements" in text


def test_flags_are_read_as_what_they_look_like() -> None:
    assert parse_flags(["a=1", "b=0.5", "c=true", "d=fp8", "e=x=y"]) == {
        "a": 1,
        "b": 0.5,
        "c": True,
        "d": "fp8",
        "e": "x=y",
    }
    with pytest.raises(InvalidInput, match="flag=value"):
        parse_flags(["=3"])
