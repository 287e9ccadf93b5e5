"""`fleetune load` and `fleetune trace` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from controlplane.cli.load import app as load_app
from controlplane.cli.trace import app as trace_app
from tests.integration.loadtests import faulty
from tests.integration.loadtests.tls import new_authority

PATIENCE_S = 100  # what a test is not about is not cut off on a slow machine
PROFILE = f"""
name: small
mix:
  - {{name: all, prompt_tokens: {{mean: 20}}, output_tokens: {{mean: 3}}}}
rate_rps: 40
duration_s: 1
warmup_s: 0
arrivals: {{process: constant}}
timeouts: {{first_token_s: {PATIENCE_S}, stall_s: {PATIENCE_S}, total_s: {PATIENCE_S}}}
slos: [{{metric: ttft_ms, percentile: 90, limit_ms: 60000}}]
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(load_app, list(arguments))


@pytest.fixture
def profile(tmp_path: Path) -> str:
    (tmp_path / "small.yaml").write_text(PROFILE)
    return str(tmp_path / "small.yaml")


def test_a_run_prints_a_table_and_writes_every_file(profile: str, tmp_path: Path) -> None:
    out = {name: tmp_path / name for name in ("r.json", "r.html", "r.csv")}
    files = ("--json", str(out["r.json"]), "--html", str(out["r.html"]), "--records", str(out["r.csv"]))
    with faulty.faulty_server(faulty.good) as url:
        done = run("-f", profile, "--target", url, *files, "--out", str(tmp_path / "raw"))
    assert "P90 TTFT ≤ 60000 ms: met" in done.output
    report = json.loads(out["r.json"].read_text())
    assert report["errors"] == 0
    assert done.exit_code == (3 if report["invalid_reason"] else 0)  # a busy machine may make the run invalid
    assert "Latency over time" in out["r.html"].read_text()
    assert len(out["r.csv"].read_text().splitlines()) == report["requests"] + 1
    assert (tmp_path / "raw" / "records.jsonl").is_file()


@pytest.mark.parametrize(
    ("behaviour", "error", "short"),
    [
        (faulty.cut, "truncated", ""),
        (faulty.storm, "http_429", ""),
        (faulty.reset, "reset", ""),
        (faulty.half_open, "timeout_first_token", "first_token_s"),
        (faulty.slow_loris, "timeout_first_token", "first_token_s"),
        (faulty.stall, "timeout_stall", "stall_s"),
    ],
)
def test_a_failing_target_has_its_exit_code(behaviour: faulty.Behaviour, error: str, short: str, profile: str) -> None:
    if short:
        Path(profile).write_text(PROFILE.replace(f"{short}: {PATIENCE_S}", f"{short}: 1"))
    with faulty.faulty_server(behaviour) as url:
        done = run("-f", profile, "--target", url, "--json", "-")
    assert done.exit_code in (1, 3)  # a busy machine may make the run invalid
    assert error in json.loads(done.stdout)["error_counts"]


def test_target_that_is_down_is_one_message_and_exit_code_2(profile: str) -> None:
    with faulty.faulty_server(faulty.good) as url:
        pass
    done = run("-f", profile, "--target", url)
    assert done.exit_code == 2
    assert "nobody answers at" in done.output


def test_requests_beyond_the_models_context_are_refused_before_the_first_is_sent(profile: str) -> None:
    with faulty.faulty_server(faulty.good, models=b'{"data":[{"id":"small","max_model_len":22}]}') as url:
        done = run("-f", profile, "--target", url, "--model", "small")
    assert done.exit_code == 2
    assert "40 of 40 requests of profile small are longer than the model's context" in done.output
    assert "at most 22" in done.output


def test_a_tls_target_is_trusted_by_its_ca_file(profile: str, tmp_path: Path) -> None:
    authority = new_authority(tmp_path)
    with faulty.faulty_server(faulty.good, authority.server) as url:
        done = run("-f", profile, "--target", url, "--ca-file", str(authority.ca_file), "--json", "-")
        refused = run("-f", profile, "--target", url, "--ca-file", str(tmp_path / "none.pem"))
        unknown = run("-f", profile, "--target", url)
    assert json.loads(done.stdout)["errors"] == 0
    assert refused.exit_code == 2
    assert "CA file" in refused.output
    assert unknown.exit_code == 2
    assert "is not trusted" in unknown.output
    assert "--ca-file" in unknown.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-f", "chat"), "give a profile and a target"),
        (("-f", "nope", "--target", "http://127.0.0.1:1"), "cannot read profile 'nope'"),
        (("-f", "chat", "--target", "127.0.0.1:1"), "not usable"),
        (("-f", "chat", "--target", "http://127.0.0.1:1", "--rate", "-3"), "rate is -3"),
        (("-f", "chat", "--target", "http://127.0.0.1:1", "--tokenizer", "none"), "tokenizer 'none' does not exist"),
        (("-f", "chat", "--target", "http://127.0.0.1:1", "--api-key-env", "NO_SUCH"), "NO_SUCH is not set"),
        (("-f", "chat", "--target", "http://127.0.0.1:1", "--rate", "nan"), "rate is nan"),
        (("-f", "chat", "--target", "http://127.0.0.1:1", "--seed", "-1"), "seed is -1 (allowed: 0 or more)"),
        (("-f", "chat", "--target", "http://127.0.0.1:1", "--json", "/nope/r.json"), "cannot write /nope/r.json"),
        (("-f", "chat", "--target", "http://127.0.0.1:1", "--html", "/"), "cannot write /: it is a folder"),
        (("-f", "chat", "--target", "http://127.0.0.1:1", "--records", "r.txt"), "cannot write records as '.txt'"),
        (("-f", "chat", "--target", "http://127.0.0.1:1", "--out", "/dev/null"), "cannot write into /dev/null"),
        (("selfcheck", "--rates", "fast"), "rates 'fast' are not numbers"),
        (("compare", "a.jsonl", "b.jsonl"), "a.jsonl is not a file"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(arguments: tuple[str, ...], message: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output


def test_broken_rows_of_a_trace_are_counted_and_the_first_is_shown(tmp_path: Path) -> None:
    rows = [f"{second},100,10" for second in range(40)]
    rows[3], rows[7] = "3,many,10", "7,100,-1"
    (tmp_path / "t.csv").write_text("Timestamp,Request tokens,Response tokens\n" + "\n".join(rows))
    (tmp_path / "p.yaml").write_text(
        f"{{name: t, rate_rps: 5, workload: {{kind: trace, trace: {tmp_path / 't.csv'}}}}}"
    )
    done = run("-f", str(tmp_path / "p.yaml"), "--target", "http://127.0.0.1:1")
    assert "2 broken rows of trace" in done.output
    assert "line 5: Request tokens is 'many', not a number" in done.output


def test_records_of_something_else_are_no_run_to_compare(tmp_path: Path) -> None:
    for name, text in (("other", '{"a": 1}\n'), ("text", "hello\n"), ("empty", "")):
        (tmp_path / name).write_text(text)
        done = run("compare", str(tmp_path / name), str(tmp_path / name))
        assert done.exit_code == 2
        assert "records.jsonl of a run" in done.output


def test_two_runs_are_compared(profile: str, tmp_path: Path) -> None:
    with faulty.faulty_server(faulty.good) as url:
        for name in ("a", "b"):
            run("-f", profile, "--target", url, "--out", str(tmp_path / name))
    done = run("compare", str(tmp_path / "a" / "records.jsonl"), str(tmp_path / "b" / "records.jsonl"))
    assert done.exit_code == 0
    assert "P99 TTFT ms" in done.output


def test_profiles_and_their_schema_are_shown() -> None:
    assert "agentic" in run("profiles").output
    assert json.loads(run("schema").stdout)["title"] == "Profile"


def test_a_report_is_printed_in_the_form_that_is_asked_for(profile: str, tmp_path: Path) -> None:
    with faulty.faulty_server(faulty.good) as url:
        done = run("-f", profile, "--target", url, "-o", "yaml", "--json", str(tmp_path / "report.json"))
    assert yaml.safe_load(done.stdout) == json.loads((tmp_path / "report.json").read_text())


def test_traces_are_listed_described_and_exported(tmp_path: Path) -> None:
    def trace(*arguments: str) -> Result:
        return CliRunner().invoke(trace_app, [*arguments])

    assert "azure-llm-2023/conv" in trace("list", "--data", str(tmp_path)).output
    assert "azure-llm-2023/conv" in trace("list", "-o", "name", "--data", str(tmp_path)).stdout.splitlines()
    assert trace("describe", "azure-llm-2023/code", "-o", "name").stdout == "azure-llm-2023/code\n"
    shown = json.loads(trace("describe", "azure-llm-2023/conv", "--against", "azure-llm-2023/code", "--json").stdout)
    assert shown["traces"][0]["requests"] == 19366
    assert all(each["drifted"] for each in shown["drift"])
    exported = trace("export", "azure-llm-2023/code", str(tmp_path / "code.csv"))
    assert "8819 requests" in exported.output
    mapped = trace("describe", str(tmp_path / "code.csv"), "--columns", "arrival_s,prompt_tokens,output_tokens")
    assert mapped.exit_code == 0
    assert trace("describe", "nope").exit_code == 2
    assert trace("describe", "azure-llm-2023/code", "--columns", "x").exit_code == 2
    assert trace("record", "chat", "--data", str(tmp_path)).exit_code == 2
