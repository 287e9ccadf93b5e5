"""Locust started by a person: it says what it needs, and its web UI shows a plan's run."""

from __future__ import annotations

import json
import shlex
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from controlplane.cli.load import app
from controlplane.host.ports import free_port
from loadtests.send.runner import LOCUSTFILE
from tests.integration.loadtests import faulty

PROFILE = """
name: small
mix:
  - {name: all, prompt_tokens: {mean: 20}, output_tokens: {mean: 3}}
rate_rps: 20
duration_s: 1
warmup_s: 0
arrivals: {process: constant}
"""
WITHIN_S = 240.0


@pytest.mark.parametrize("words", ["", "--fleetune-plan /nowhere/plan.json"], ids=["no plan", "no such plan"])
def test_without_a_plan_locust_says_what_it_needs_instead_of_sending_nothing(words: str) -> None:
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "-u", "1", *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WITHIN_S)
    assert done.returncode == 1
    assert "fleetune load plan -f PROFILE --target URL --out FOLDER" in done.stderr


def test_a_written_plan_is_run_by_the_printed_command_and_shown_in_the_web_ui(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "sk-none-of-your-business")
    (tmp_path / "small.yaml").write_text(PROFILE)
    with faulty.faulty_server(faulty.good) as url:
        given = ["-f", str(tmp_path / "small.yaml"), "--target", url, "--out", str(tmp_path / "run")]
        done = CliRunner().invoke(app, ["plan", *given, "--api-key-env", "SECRET"])
        assert done.exit_code == 0, done.output
        port = free_port()
        command = [sys.executable, "-m", *shlex.split(done.stdout), "--web-port", str(port), "--web-host", "127.0.0.1"]
        locust = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            shown = _shown(f"http://127.0.0.1:{port}/stats/requests", requests=20)
        finally:
            locust.terminate()
            locust.wait()
    assert (shown["name"], shown["num_failures"]) == ("/completions", 0)
    records = (tmp_path / "run" / "records-0.jsonl").read_text().splitlines()
    assert len(records) == 20


def test_a_plan_can_be_read_by_its_owner_only_for_it_holds_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "sk-none-of-your-business")
    given = ["-f", "chat", "--target", "http://127.0.0.1:1", "--out", str(tmp_path), "--api-key-env", "SECRET"]
    assert CliRunner().invoke(app, ["plan", *given]).exit_code == 0
    assert stat.S_IMODE((tmp_path / "plan.json").stat().st_mode) == 0o600
    assert json.loads((tmp_path / "plan.json").read_text())["api_key"] == "sk-none-of-your-business"


def _shown(url: str, *, requests: int) -> dict[str, Any]:
    """Wait until the web UI's own figures have so many requests."""
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        try:
            stats = httpx.get(url, trust_env=False, verify=False, timeout=240).json()["stats"]
        except httpx.TransportError:  # still starting
            stats = []
        rows: list[dict[str, Any]] = [row for row in stats if row["name"] != "Aggregated"]
        if rows and rows[0]["num_requests"] >= requests:
            return rows[0]
        time.sleep(0.1)
    raise AssertionError("the web UI did not show the run")
