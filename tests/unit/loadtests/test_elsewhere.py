"""Generators on other hosts: asked for when a level needs them, kept between levels, given back whatever happens."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from controlplane.adapters.loadtester_locust import LoadTesterElsewhere, LocustLoadTester
from controlplane.adapters.loadtester_locust.elsewhere import rate_of
from controlplane.domain.errors import InvalidInput, Unavailable
from controlplane.domain.load_pods import LoadRate
from controlplane.domain.workload import ArrivalProcess, Arrivals, Lengths, SyntheticWorkload
from controlplane.ports.load import LoadProgress, LoadRequest
from loadtests.generator import command
from loadtests.send.runner import LOCUSTFILE
from loadtests.send.schedule import build_schedule

CONSTANT = Arrivals(process=ArrivalProcess.CONSTANT)
WORKLOAD = SyntheticWorkload(prompt_tokens=Lengths(mean=50), output_tokens=Lengths(mean=8), arrivals=CONSTANT)


class NoHosts:
    """Implements `ports.GeneratorHosts`: none ever comes up."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.released = 0

    def hold(self, processes: int, *, port: int, check: Callable[[], None]) -> None:
        self.asked.append(processes)
        check()
        raise Unavailable("no pods to send the load", why="no node takes it")

    def release(self) -> None:
        self.released += 1


def level(url: str = "http://10.0.0.3:8000", **more: object) -> LoadRequest:
    fields = {"workload": WORKLOAD, "rate_rps": 40, "url": url, "model": "m", "duration_s": 8.0, "warmup_s": 2.0}
    return LoadRequest.model_validate(fields | more)


def with_hosts(hosts: NoHosts) -> LoadTesterElsewhere:
    return LoadTesterElsewhere(hosts, needed=lambda _: 3, address="127.0.0.1", here=LocustLoadTester())


def test_hosts_that_do_not_come_up_break_the_level_and_are_given_back(tmp_path: Path) -> None:
    hosts = NoHosts()
    with with_hosts(hosts) as elsewhere, pytest.raises(Unavailable, match="no node takes it"):
        elsewhere.run(level(), out_dir=tmp_path)
    assert (hosts.asked, hosts.released) == ([3], 1)


def test_whoever_watches_a_level_can_end_it_while_its_hosts_come_up(tmp_path: Path) -> None:
    class Aborted(Exception):
        pass

    def watch(progress: LoadProgress) -> str | None:
        raise Aborted

    hosts = NoHosts()
    with with_hosts(hosts) as elsewhere, pytest.raises(Aborted):
        elsewhere.run(level(), out_dir=tmp_path, watch=watch)
    assert hosts.released == 1


def test_a_target_that_cannot_be_used_asks_for_no_host(tmp_path: Path) -> None:
    hosts = NoHosts()
    with with_hosts(hosts) as elsewhere, pytest.raises(InvalidInput, match="ftp"):
        elsewhere.run(level("ftp://somewhere"), out_dir=tmp_path)
    assert hosts.asked == []


def test_a_rate_is_told_in_seconds_of_the_wall_clock() -> None:
    schedule = build_schedule(WORKLOAD, rate_rps=40, duration_s=10, seed=0)
    assert rate_of(schedule, level()) == LoadRate(40, 320)
    assert rate_of(schedule, level(time_lapse=10)) == LoadRate(400, 3200)


def test_a_generator_becomes_a_worker_of_the_master_it_is_told() -> None:
    words = command("10.0.0.7", "24001")
    assert words[1:5] == ["-m", "locust", "-f", str(LOCUSTFILE)]
    assert words[-4:] == ["--master-host", "10.0.0.7", "--master-port", "24001"]


def test_a_generator_that_is_not_told_its_master_says_what_it_needs() -> None:
    done = subprocess.run([sys.executable, "-m", "loadtests.generator"], capture_output=True, text=True, check=False)
    assert (done.returncode, "MASTER_HOST PORT" in done.stderr) == (1, True)
