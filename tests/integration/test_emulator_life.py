"""How an emulator starts, refuses to start, and ends: exit codes and words are vLLM's."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time

import httpx
import pytest

from controlplane.domain.engines.engine_failures import diagnose
from controlplane.domain.engines.kinds.vllm import VLLM
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.host.ports import free_port
from tests.integration.emulators import MODEL, Emulator, emulator, launch


@pytest.mark.parametrize(
    ("words", "devices", "code", "said", "failure"),
    [
        (["llama-70b", "--max-model-len=8192"], "0", 1, "Available KV cache memory|No available memory", "oom"),
        (["llama-8b", "--gpu-memory-utilization=0.13"], "0", 1, "larger than the available KV cache memory", "oom"),
        (["llama-70b", "--emulator-gpu=L4"], "0", 1, "torch.OutOfMemoryError: CUDA out of memory", "oom"),
        (["llama-8b", "--emulator-fault=out-of-memory"], "0", 1, "CUDA out of memory", "oom"),
        (["llama-8b", "--tensor-parallel-size=2"], "0", 1, "larger than the number of available GPUs (1)", "flag"),
        (["llama-8b", "--tensor-parallel-size=3"], "0,1,2", 1, "must be divisible by tensor parallel size (3)", "flag"),
        (["llama-8b", "--max-model-len=1000000"], "0", 1, "greater than the derived max_model_len", "flag"),
        (["llama-8b", "--emulator-gpu=ABACUS"], "0", 1, "ABACUS", "flag"),
        (["llama-8b", "--frobnicate=1"], "0", 2, "error: unrecognized arguments: --frobnicate=1", "flag"),
        (["llama-8b", "--quantization=nonsense"], "0", 1, "nonsense", "flag"),
    ],
)
def test_a_configuration_vllm_would_refuse_is_refused_in_its_words(
    words: list[str], devices: str, code: int, said: str, failure: str
) -> None:
    with launch(*words, "--port=0", "--emulator-startup-s=0", devices=devices) as process:
        _, log = process.communicate(timeout=240)
    assert process.returncode == code
    assert any(part in log for part in said.split("|")), log
    wanted = StartFailure.OUT_OF_MEMORY if failure == "oom" else StartFailure.REFUSED_FLAG
    assert diagnose(log, VLLM.log, exit_code=code, was_ready=False).failure is wanted


def test_a_port_in_use_is_said_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with launch("llama-8b", f"--port={port}", "--emulator-startup-s=600") as process:
            _, log = process.communicate(timeout=240)
    assert process.returncode == 1
    assert diagnose(log, VLLM.log, exit_code=1, was_ready=False).failure is StartFailure.PORT


@pytest.mark.parametrize("slow", ["--emulator-startup-s=600", "--emulator-fault=slow-start-s=600"])
def test_nothing_is_answered_while_the_engine_starts_up(slow: str) -> None:
    port = free_port()
    with launch("llama-8b", f"--port={port}", "--emulator-startup-s=0", slow) as process:
        assert process.stderr is not None
        while "KV cache size" not in process.stderr.readline():
            pass
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False, verify=False, timeout=240)
        process.terminate()
        assert process.wait(timeout=240) in (0, -signal.SIGTERM)  # the latter before it listens to signals


def begin_stream(running: Emulator, tokens: int) -> tuple[threading.Thread, list[str]]:
    """Start a stream in a thread and wait for its first token; returns the thread and the lines it gets."""
    lines: list[str] = []
    begun = threading.Event()

    def read() -> None:
        body = {"prompt": [1], "max_tokens": tokens, "stream": True}
        url = f"{running.url}/v1/completions"
        try:
            with httpx.stream("POST", url, json=body, timeout=240, trust_env=False, verify=False) as got:
                for line in filter(None, got.iter_lines()):
                    lines.append(line)
                    begun.set()
        except httpx.TransportError as error:
            lines.append(type(error).__name__)

    thread = threading.Thread(target=read)
    thread.start()
    assert begun.wait(240)  # of the stream itself: one that is over by now was not missed
    return thread, lines


def wait_until_refused(running: Emulator) -> None:
    """Wait until the signal that was sent has been handled: nobody is let in any more.

    Who stood before the door when it was closed is sent away instead (a reset, no answer).
    """
    give_up_s = time.monotonic() + 240
    with contextlib.suppress(httpx.NetworkError, httpx.RemoteProtocolError):
        while time.monotonic() < give_up_s:
            httpx.get(f"{running.url}/health", trust_env=False, verify=False, timeout=240)
            time.sleep(0.01)
        raise AssertionError("it goes on taking requests")


def test_sigterm_cuts_streams_without_a_shutdown_timeout() -> None:
    with emulator() as running:
        thread, lines = begin_stream(running, 8000)
        running.process.send_signal(signal.SIGTERM)
        thread.join()
        assert lines[-1] in ("RemoteProtocolError", "ReadError")
        assert running.process.wait(timeout=240) == 0


def test_sigterm_lets_streams_end_within_the_shutdown_timeout() -> None:
    with emulator("--shutdown-timeout=240") as running:
        thread, lines = begin_stream(running, 150)
        running.process.send_signal(signal.SIGTERM)
        thread.join()
        assert lines[-1] == "data: [DONE]"
        assert len(lines) == 151
        assert running.process.wait(timeout=240) == 0


def test_a_draining_emulator_takes_nothing_new() -> None:
    with emulator("--shutdown-timeout=240") as running:
        thread, lines = begin_stream(running, 8000)
        running.process.send_signal(signal.SIGTERM)
        wait_until_refused(running)
        assert thread.is_alive()
    thread.join()
    assert "data: [DONE]" not in lines  # while it ran


def test_an_api_key_is_asked_for_on_the_v1_routes_only() -> None:
    with (
        emulator("--api-key=hush") as running,
        httpx.Client(base_url=running.url, trust_env=False, verify=False, timeout=240) as client,
    ):
        body = {"model": MODEL, "prompt": [1], "max_tokens": 1}
        assert client.post("/v1/completions", json=body).status_code == 401
        assert client.post("/v1/completions", json=body, headers={"Authorization": "Bearer no"}).status_code == 401
        assert client.post("/v1/completions", json=body, headers={"Authorization": "Bearer hush"}).status_code == 200
        assert client.get("/health").status_code == client.get("/metrics").status_code == 200


def test_a_time_lapse_is_said_wherever_its_numbers_appear() -> None:
    with (
        emulator("--emulator-time-lapse=10") as running,
        httpx.Client(base_url=running.url, trust_env=False, verify=False, timeout=240) as client,
    ):
        answer = client.post("/v1/completions", json={"prompt": [1], "max_tokens": 2})
        assert answer.headers["x-fleetune-time-lapse"] == "10"
        assert client.get("/version").json()["emulator"]["time_lapse"] == 10
        assert 'time_lapse="10"' in client.get("/metrics").text


def test_the_same_seed_says_the_same_words() -> None:
    def said(seed: int) -> str:
        with emulator(f"--emulator-seed={seed}") as running:
            body = {"prompt": [1], "max_tokens": 20}
            answer = httpx.post(f"{running.url}/v1/completions", json=body, trust_env=False, verify=False, timeout=240)
            text: str = answer.json()["choices"][0]["text"]
            return text

    assert said(1) == said(1) != said(2)
