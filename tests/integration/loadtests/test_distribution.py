"""Several processes and several hosts: one exact schedule, one report, and no quiet loss."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil

from controlplane.domain.report import Validity
from controlplane.domain.workload import Lengths, SyntheticWorkload
from controlplane.host.ports import free_port
from loadtests.loadtest import LoadTest, run_load_test
from loadtests.measure.records import read_records
from loadtests.selfcheck import truth_server
from loadtests.send.runner import LOCUSTFILE, Generator, Progress, WorkersElsewhere
from tests.integration.loadtests import faulty
from tests.integration.loadtests.test_faults import test_of as load_test_of


def test_two_processes_send_exactly_one_schedule(tmp_path: Path) -> None:
    with faulty.faulty_server(faulty.good) as url, Generator(processes=2) as generator:
        result = run_load_test(load_test_of(url, processes=2, rate_rps=60.0), generator, out_dir=tmp_path)
    assert (result.report.requests, result.report.errors) == (60, 0)
    assert read_records([result.records_path]).index.tolist() == list(range(60))


def test_lost_worker_makes_the_run_invalid_not_smaller(tmp_path: Path) -> None:
    def kill_one(progress: Progress) -> str | None:
        workers = [each for child in psutil.Process().children() for each in child.children()]
        if len(workers) == 2:
            os.kill(workers[0].pid, signal.SIGKILL)
        return None

    with faulty.faulty_server(faulty.good) as url, Generator(processes=2) as generator:
        test = load_test_of(url, processes=2, duration_s=20.0)
        report = run_load_test(test, generator, out_dir=tmp_path, watch=kill_one).report
    assert report.validity is Validity.INVALID
    assert "worker" in (report.invalid_reason or "")


def test_without_a_worker_that_is_not_ready_nobody_begins(tmp_path: Path) -> None:
    with faulty.faulty_server(faulty.good) as url, Generator(processes=2) as generator:
        test = load_test_of(url, processes=2, rate_rps=60.0)
        run_load_test(test, generator, out_dir=tmp_path / "whole")
        stopped, _ = [each for child in psutil.Process().children() for each in child.children()]
        stopped.suspend()  # the master still counts it as there, for as long as it waits for a sign of life
        result = run_load_test(test, generator, out_dir=tmp_path / "half")
    assert result.report.validity is Validity.INVALID
    assert "was lost" in (result.report.invalid_reason or "")
    assert len(read_records([result.records_path]).index) == 0


def test_a_worker_that_wakes_late_puts_the_begin_off_not_its_requests(tmp_path: Path) -> None:
    with faulty.faulty_server(faulty.good) as url, Generator(processes=2) as generator:
        test = load_test_of(url, processes=2, rate_rps=60.0)
        run_load_test(test, generator, out_dir=tmp_path / "first")
        late, _ = [each for child in psutil.Process().children() for each in child.children()]
        late.suspend()
        waking = threading.Timer(1.5, late.resume)  # longer than the lead of a run
        waking.start()
        result = run_load_test(test, generator, out_dir=tmp_path / "second")
        waking.join()
    assert (result.report.requests, result.report.errors) == (60, 0)
    assert "generator process broke" not in (result.report.invalid_reason or "")


def test_workers_busy_with_long_streams_are_not_taken_for_lost(tmp_path: Path) -> None:
    long = SyntheticWorkload(prompt_tokens=Lengths(mean=20), output_tokens=Lengths(mean=200))
    with truth_server(tmp_path / "truth") as url, Generator(processes=2) as generator:
        test = LoadTest(long, 20.0, url, "truth", 10.0, processes=2)  # Locust's master waits 3 s for a sign of life
        report = run_load_test(test, generator, out_dir=tmp_path / "run").report
    assert report.completed == report.requests > 150
    assert "lost" not in (report.invalid_reason or "")


def test_workers_without_our_disk_send_their_records_home(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--worker", "--master-host", "127.0.0.1"]
    workers = [subprocess.Popen([*command, "--master-port", str(port)], cwd=tmp_path) for _ in range(2)]
    try:
        with (
            faulty.faulty_server(faulty.good) as url,
            Generator(elsewhere=WorkersElsewhere(2, "127.0.0.1", port)) as generator,
        ):
            test = load_test_of(url, processes=2, rate_rps=60.0, ship=True)
            result = run_load_test(test, generator, out_dir=tmp_path / "run")
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(240)
    assert (result.report.requests, result.report.errors) == (60, 0)
    assert read_records([result.records_path]).index.tolist() == list(range(60))
