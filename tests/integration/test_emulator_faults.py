"""Every fault can be set at start or while the emulator runs, and does what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

import httpx
import pytest

from tests.integration.emulators import Emulator, emulator

BODY = {"prompt": [1, 2, 3], "max_tokens": 12, "stream": True}


@pytest.fixture(scope="module")
def started() -> Iterator[Emulator]:
    with emulator() as made:
        yield made


@pytest.fixture
def running(started: Emulator) -> Emulator:
    """One emulator for all tests of faults that come and go: none of the test before is left in it."""
    set_faults(started)
    return started


def set_faults(running: Emulator, **faults: object) -> None:
    httpx.put(f"{running.admin_url}/faults", json=faults, trust_env=False, verify=False, timeout=240).raise_for_status()


def words(running: Emulator) -> list[str]:
    """Return the events of one stream. Raises httpx errors as a client sees them."""
    found: list[str] = []
    url = f"{running.url}/v1/completions"
    with httpx.stream("POST", url, json=BODY, timeout=240, trust_env=False, verify=False) as answer:
        answer.raise_for_status()
        found.extend(line for line in answer.iter_lines() if line)
    return found


def words_for_ever(running: Emulator) -> None:
    while True:
        words(running)


def test_without_faults_nothing_goes_wrong(running: Emulator) -> None:
    assert len(words(running)) == 13
    shown = httpx.get(f"{running.admin_url}/faults", trust_env=False, verify=False, timeout=240).json()
    assert (shown["error_ratio"], shown["slow_factor"], shown["metrics"]) == (0, 1, "right")


def test_errors_come_and_go_with_the_fault(running: Emulator) -> None:
    set_faults(running, error_ratio=1)
    answer = httpx.post(f"{running.url}/v1/completions", json=BODY, trust_env=False, verify=False, timeout=240)
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "InternalServerError")
    set_faults(running)
    assert words(running)[-1] == "data: [DONE]"


def test_about_the_stated_share_of_requests_errs(running: Emulator) -> None:
    set_faults(running, error_ratio=0.3)
    url = f"{running.url}/v1/completions"
    body = {"prompt": [1], "max_tokens": 1}
    with httpx.Client(trust_env=False, verify=False, timeout=240) as client:
        failed = sum(client.post(url, json=body).status_code == 500 for _ in range(100))
    assert 15 <= failed <= 45


def test_a_cut_stream_breaks_after_the_stated_tokens(running: Emulator) -> None:
    set_faults(running, cut_ratio=1, cut_after_tokens=4)
    found: list[str] = []
    url = f"{running.url}/v1/completions"
    with (
        pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)),
        httpx.stream("POST", url, json=BODY, timeout=240, trust_env=False, verify=False) as answer,
    ):
        found.extend(line for line in answer.iter_lines() if line)
    assert "data: [DONE]" not in found


def test_a_stalled_stream_gives_its_tokens_and_then_nothing(running: Emulator) -> None:
    set_faults(running, stall_ratio=1, stall_after_tokens=4)
    with closing(HTTPConnection(urlsplit(running.url).netloc, timeout=240)) as connection:
        connection.request("POST", "/v1/completions", json.dumps(BODY), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        for _ in range(4):  # however slowly they come
            assert answer.readline().startswith(b"data: {")
            assert answer.readline() == b"\n"
        connection.sock.settimeout(1.0)
        with pytest.raises(TimeoutError):
            answer.readline()


def test_a_degraded_engine_is_slower_by_the_factor_in_its_own_metrics_too(running: Emulator) -> None:
    def mean_gap_s() -> float:
        before = gaps(running)
        words(running)
        after = gaps(running)
        return (after[0] - before[0]) / (after[1] - before[1])

    healthy_s = min(mean_gap_s() for _ in range(6))  # the first, and a busy machine, only make it longer
    set_faults(running, slow_factor=10)
    assert mean_gap_s() > 4 * healthy_s


def gaps(running: Emulator) -> tuple[float, float]:
    """Sum and number of gaps between tokens by the engine's metrics."""
    rows = httpx.get(f"{running.url}/metrics", trust_env=False, verify=False, timeout=240).text.splitlines()
    values = {row.split("{")[0]: float(row.rsplit(" ", 1)[1]) for row in rows if "inter_token" in row and "{" in row}
    return values["vllm:inter_token_latency_seconds_sum"], values["vllm:inter_token_latency_seconds_count"]


def test_metrics_can_be_missing_or_wrong(running: Emulator) -> None:
    before = gaps(running)[1]
    words(running)
    set_faults(running, metrics="missing")
    assert httpx.get(f"{running.url}/metrics", trust_env=False, verify=False, timeout=240).status_code == 404
    set_faults(running, metrics="wrong")
    assert gaps(running) == (0, 0)
    set_faults(running)
    assert gaps(running)[1] == before + 11


@pytest.mark.parametrize("fault", ["crash-after-requests=3", "crash-after-s=1.5"])
def test_a_crash_cuts_what_runs_and_ends_the_process(fault: str) -> None:
    with emulator(f"--emulator-fault={fault}") as running:
        with pytest.raises(httpx.TransportError):
            words_for_ever(running)
        assert running.process.wait(timeout=240) == 1


def test_a_fault_set_at_start_is_the_one_in_force() -> None:
    with emulator("--emulator-fault=error-ratio=1") as running:
        assert (
            httpx.post(
                f"{running.url}/v1/completions", json=BODY, trust_env=False, verify=False, timeout=240
            ).status_code
            == 500
        )


def test_wrong_faults_are_refused_and_change_nothing(running: Emulator) -> None:
    answer = httpx.put(
        f"{running.admin_url}/faults",
        json={"error_ratio": 2, "nonsense": 1},
        trust_env=False,
        verify=False,
        timeout=240,
    )
    assert answer.status_code == 422
    assert "error_ratio" in answer.json()["detail"]
    assert "nonsense" in answer.json()["detail"]
    assert words(running)[-1] == "data: [DONE]"


def test_faults_cannot_be_reached_through_the_public_port(running: Emulator) -> None:
    assert httpx.get(f"{running.url}/faults", trust_env=False, verify=False, timeout=240).status_code == 404
    assert running.admin_url.startswith("http://127.0.0.1:")
