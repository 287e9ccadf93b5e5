"""Targets that misbehave: every request ends, in the right class, and the generator lives on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from controlplane.domain.errors import Unavailable
from controlplane.domain.report import LoadTestReport
from controlplane.domain.workload import ArrivalProcess, Arrivals, Lengths, SyntheticWorkload
from loadtests.loadtest import LoadTest, run_load_test
from loadtests.send.plan import Api, Timeouts
from loadtests.send.runner import Generator, Progress
from tests.integration.loadtests import faulty

WORKLOAD = SyntheticWorkload(
    prompt_tokens=Lengths(mean=20), output_tokens=Lengths(mean=3), arrivals=Arrivals(process=ArrivalProcess.CONSTANT)
)
SHORT = Timeouts(connect_s=1, first_token_s=1, stall_s=1, total_s=3)
LONG_S = 100.0  # what a test is not about is not cut off on a slow machine
LONG = Timeouts(connect_s=LONG_S, first_token_s=LONG_S, stall_s=LONG_S, total_s=LONG_S)
FIRST = LONG.evolve(first_token_s=1)
STALL = LONG.evolve(stall_s=1)


@pytest.fixture(scope="module")
def generator() -> Iterator[Generator]:
    with Generator() as running:
        yield running


def test_of(url: str, **more: object) -> LoadTest:
    fields: dict[str, object] = {"rate_rps": 30.0, "duration_s": 1.0, "timeouts": LONG} | more
    return LoadTest(workload=WORKLOAD, url=url, model="m", **fields)  # type: ignore[arg-type]


test_of.__test__ = False  # type: ignore[attr-defined]


def run(generator: Generator, behaviour: faulty.Behaviour, out_dir: Path, **more: object) -> LoadTestReport:
    with faulty.faulty_server(behaviour) as url:
        return run_load_test(test_of(url, **more), generator, out_dir=out_dir).report


@pytest.mark.parametrize(
    ("behaviour", "errors", "timeouts"),
    [
        (faulty.good, {}, LONG),
        (faulty.closes_behind(), {}, LONG),
        (faulty.storm, {"http_429": 10, "http_503": 10}, LONG),
        (faulty.slow_loris, {"timeout_first_token": 30}, FIRST),
        (faulty.half_open, {"timeout_first_token": 30}, FIRST),
        (faulty.stall, {"timeout_stall": 30}, STALL),
        (faulty.cut, {"truncated": 30}, LONG),
        (faulty.reset, {"reset": 30}, LONG),
        (faulty.redirect, {"redirect": 30}, LONG),
    ],
)
def test_every_request_ends_in_its_class(
    generator: Generator, tmp_path: Path, behaviour: faulty.Behaviour, errors: dict[str, int], timeouts: Timeouts
) -> None:
    report = run(generator, behaviour, tmp_path, timeouts=timeouts)
    assert report.error_counts == errors
    assert (report.requests, report.unfinished) == (30, 0)
    assert report.completed == 30 - sum(errors.values())


def test_target_that_refuses_connections_fails_every_request(generator: Generator, tmp_path: Path) -> None:
    with faulty.faulty_server(faulty.good) as url:
        pass
    report = run_load_test(test_of(url), generator, out_dir=tmp_path).report
    assert (report.requests, report.completed, report.error_counts) == (30, 0, {"connect": 30})


def test_target_that_never_accepts_ends_in_timeouts(generator: Generator, tmp_path: Path) -> None:
    with faulty.full_listener() as url:
        report = run_load_test(test_of(url, timeouts=SHORT), generator, out_dir=tmp_path).report
    assert report.requests == sum(report.error_counts.values()) == 30
    assert set(report.error_counts) <= {"timeout_connect", "timeout_first_token"}


def test_target_that_goes_down_fails_what_comes_after(generator: Generator, tmp_path: Path) -> None:
    with ExitStack() as server:
        url = server.enter_context(faulty.faulty_server(faulty.good))

        def take_down(progress: Progress) -> str | None:
            if progress.sent - progress.in_flight >= 10:
                server.close()
            return None

        report = run_load_test(test_of(url, duration_s=2.0), generator, out_dir=tmp_path, watch=take_down).report
    assert report.requests == 60
    assert report.completed >= 10
    assert report.errors == 60 - report.completed > 0
    assert set(report.error_counts) <= {"connect", "reset", "truncated"}


def test_total_time_ends_streams_that_never_do(generator: Generator, tmp_path: Path) -> None:
    limits = Timeouts(first_token_s=9, stall_s=9, total_s=1.5)
    assert run(generator, faulty.stall, tmp_path, timeouts=limits).error_counts == {"timeout_total": 30}


def test_generator_serves_on_after_the_worst(generator: Generator, tmp_path: Path) -> None:
    run(generator, faulty.reset, tmp_path / "bad")
    assert run(generator, faulty.good, tmp_path / "good").errors == 0


def test_chat_prompts_are_text_and_closed_loop_keeps_its_concurrency(generator: Generator, tmp_path: Path) -> None:
    report = run(generator, faulty.good, tmp_path, api=Api.CHAT, concurrency=3)
    assert (report.errors, report.requests) == (0, 30)


def test_key_and_prompts_stay_out_of_the_files(generator: Generator, tmp_path: Path) -> None:
    run(generator, faulty.good, tmp_path, api_key="sk-very-secret", api=Api.CHAT)
    for path in tmp_path.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert b"sk-very-secret" not in content
        assert b"messages" not in content


def test_generator_that_dies_raises_and_leaves_nothing_behind(tmp_path: Path) -> None:
    def kill(progress: Progress) -> str | None:
        for child in psutil.Process().children():
            with suppress(psutil.NoSuchProcess):  # dead since the look before, and not yet taken leave of
                if "locust" in " ".join(child.cmdline()):
                    os.kill(child.pid, signal.SIGKILL)
        return None

    with faulty.faulty_server(faulty.good) as url, Generator() as generator:
        with pytest.raises(Unavailable, match="exited with -9"):
            run_load_test(test_of(url, duration_s=600.0), generator, out_dir=tmp_path / "a", watch=kill)
        assert run_load_test(test_of(url), generator, out_dir=tmp_path / "b").report.errors == 0
