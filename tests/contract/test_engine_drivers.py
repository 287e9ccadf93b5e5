"""What every driver promises of its engine: launched, ready, counted, asked, diagnosed and stopped by its words alone.

The emulator stands for the engines; llama.cpp's own is in `test_real_llama_cpp.py`.
"""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from controlplane.adapters.fleet_processes.commands import command_line
from controlplane.adapters.metrics_scrape.page import read_page
from controlplane.domain.base import EngineId
from controlplane.domain.engines.drivers import driver_of
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.engine_failures import Diagnosis, diagnose
from controlplane.domain.engines.fleet import EngineSpec, EngineState
from controlplane.domain.engines.start_failure import StartFailure
from tests.contract.engine_subjects import DIALECTS, an_engine
from tests.contract.fleet_subjects import ProcessSubject, observe_until

Running = Callable[[EngineKind], str]
ID = EngineId("e-1")
EVERY = (EngineKind.EMULATOR, *DIALECTS)
COUNTED: dict[EngineKind, dict[str, Any]] = {
    EngineKind.EMULATOR: {"max_num_seqs": 4},
    EngineKind.SGLANG: {"max_running_requests": 4, "chunked_prefill_size": 2048},
    EngineKind.TENSORRT_LLM: {"max_batch_size": 4, "max_num_tokens": 2048, "enable_chunked_prefill": True},
    EngineKind.TGI: {"max_batch_prefill_tokens": 2048, "cuda_memory_fraction": 0.9},
    EngineKind.LLAMA_CPP: {"parallel": 4, "cont_batching": True, "mmap": False, "threads": 2},
}
"""A few flags of each kind, of every type it has."""


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[ProcessSubject]:
    found = ProcessSubject(tmp_path / "engines")
    yield found
    found.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Give the URL of one engine of a kind, started when it is first asked for, to tests that only ask it."""
    subjects: dict[EngineKind, ProcessSubject] = {}

    def url_of(kind: EngineKind) -> str:
        if kind not in subjects:
            subjects[kind] = ProcessSubject(tmp_path_factory.mktemp(kind.value))
            subjects[kind].fleet.start(an_engine(kind))
        url = observe_until(subjects[kind], ID, EngineState.READY).url
        assert url is not None
        return url

    yield url_of
    for each in subjects.values():
        each.close()


@contextmanager
def busy(url: str, kind: EngineKind) -> Iterator[None]:
    """Hold one long stream open, asked for in the engine's dialect."""
    dialect, begun, over = driver_of(kind).dialect, threading.Event(), threading.Event()
    prompt: Any = [1, 2, 3] if dialect.token_ids else "one two three"
    body = {"model": "chat", "prompt": prompt, "max_tokens": 8000, "stream": True, "ignore_eos": True}

    def read() -> None:
        with httpx.stream(
            "POST", f"{url}/v1/completions", json=body, timeout=240, trust_env=False, verify=False
        ) as answer:
            for _ in answer.iter_lines():
                begun.set()
                if over.is_set():
                    return

    client = threading.Thread(target=read, daemon=True)
    client.start()
    assert begun.wait(240)
    yield
    over.set()
    client.join()


@pytest.mark.parametrize("kind", EVERY)
def test_it_becomes_ready_counts_what_runs_and_stops(kind: EngineKind, subject: ProcessSubject) -> None:
    slow = "--emulator-time-lapse=0.1"  # the stream is still there when it is counted
    subject.fleet.start(an_engine(kind, slow, **COUNTED[kind]))
    seen = observe_until(subject, ID, EngineState.READY)
    assert seen.url is not None
    subject.wait(lambda: subject.fleet.in_flight(ID) == 0)
    with busy(seen.url, kind):
        subject.wait(lambda: subject.fleet.in_flight(ID) == 1)
    subject.fleet.stop(ID, drain_s=0)
    observe_until(subject, ID, EngineState.STOPPED)


@pytest.mark.parametrize("kind", EVERY)
def test_its_page_tells_what_its_driver_names_and_nothing_else(kind: EngineKind, running: Running) -> None:
    driver, url = driver_of(kind), running(kind)
    text = httpx.get(f"{url}{driver.metrics.path}", trust_env=False, verify=False, timeout=240).text
    told = read_page(text, driver.metrics)
    for field in ("running", "waiting", "kv_usage"):
        assert (getattr(told, field) is not None) == (getattr(driver.metrics, field) is not None), field
    for field in ("ttft_s", "tpot_s"):
        assert bool(getattr(told, field).bounds) == (getattr(driver.metrics, field) is not None), field
    for counter in (driver.metrics.prompt_tokens, driver.metrics.generation_tokens, driver.metrics.preemptions):
        assert counter is None or f"\n{counter}" in text
    label = driver.metrics.model_label
    assert label is None or f'{label}="chat"' in text


@pytest.mark.parametrize("kind", DIALECTS)
def test_it_takes_only_the_requests_its_dialect_names(kind: EngineKind, running: Running) -> None:
    dialect, url = driver_of(kind).dialect, running(kind)
    asked = {"model": "chat", "prompt": [1, 2], "max_tokens": 2}
    ids = httpx.post(f"{url}/v1/completions", json=asked, timeout=240, trust_env=False, verify=False)
    assert (ids.status_code == 200) == dialect.token_ids
    text = httpx.post(f"{url}/v1/completions", json=asked | {"prompt": "a"}, timeout=240, trust_env=False, verify=False)
    assert text.status_code == 200
    long = {"model": "chat", "prompt": "a", "max_tokens": 400, "ignore_eos": True}
    usage = httpx.post(f"{url}/v1/completions", json=long, timeout=240, trust_env=False, verify=False).json()["usage"]
    assert usage["completion_tokens"] == 400 or not dialect.ignore_eos


def failed(subject: ProcessSubject, spec: EngineSpec) -> tuple[StartFailure | None, str]:
    subject.fleet.start(spec)
    subject.wait(lambda: subject.fleet.observe(ID).state.is_over)
    seen = subject.fleet.observe(ID)
    return seen.failure, seen.failure_detail or ""


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("flags", [{"frobnicate": 1}, {"port": "many"}])
def test_a_refused_flag_is_told_apart(kind: EngineKind, flags: dict[str, Any], subject: ProcessSubject) -> None:
    failure, detail = failed(subject, an_engine(kind, **flags))
    assert failure is StartFailure.REFUSED_FLAG, detail
    assert f"--{next(iter(flags))}" in detail


@pytest.mark.parametrize("kind", EVERY)
def test_too_little_memory_is_told_apart(kind: EngineKind, subject: ProcessSubject) -> None:
    failure, detail = failed(subject, an_engine(kind, "--emulator-fault=out-of-memory"))
    assert failure is StartFailure.OUT_OF_MEMORY, detail


@pytest.mark.parametrize("kind", DIALECTS)
def test_a_model_that_is_not_there_is_named(kind: EngineKind, subject: ProcessSubject) -> None:
    failure, detail = failed(subject, an_engine(kind, model="/nowhere/model"))
    assert failure is StartFailure.OTHER
    assert "/nowhere/model" in detail


@pytest.mark.parametrize("kind", EVERY)
def test_a_taken_port_is_told_apart(kind: EngineKind) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = command_line(an_engine(kind), host="127.0.0.1", port=taken.getsockname()[1])
        ended = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)
    assert _said(kind, ended).failure is StartFailure.PORT, ended.stderr


def _said(kind: EngineKind, ended: subprocess.CompletedProcess[str]) -> Diagnosis:
    return diagnose(ended.stderr, driver_of(kind).log, exit_code=ended.returncode, was_ready=False)


@pytest.mark.parametrize("kind", DIALECTS)
def test_a_flag_spelled_as_another_engine_takes_it_is_refused(kind: EngineKind) -> None:
    """Guards the spelling: a reader that took every spelling would let a wrong driver pass."""
    style = driver_of(kind).flags
    words = command_line(an_engine(kind).evolve(config=EngineConfig()), host="127.0.0.1", port=1)
    wrong = "--max-num-tokens=1" if style.underscores else "--max_running_requests=1"
    ended = subprocess.run([*words, wrong], capture_output=True, text=True, timeout=240, check=False)
    assert _said(kind, ended).failure is StartFailure.REFUSED_FLAG
