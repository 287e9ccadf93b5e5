"""What the doctor finds, one thing at a time: well, broken with what to do, or not set up."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import httpx
import pytest

from controlplane.cli.doctor import examined
from controlplane.cli.installation import checks, hangs
from controlplane.cli.installation.check import Check, Outcome
from controlplane.domain.engines.gpu import GpuReading
from controlplane.domain.errors import Unavailable
from controlplane.host.clock import FILE
from controlplane.settings import Settings
from tests.builders_serving import NOW, after

GIB = 2**30
ISSUERS = """issuers:
  - {name: corp, issuer: "https://id.example", audience: fleetune, jwks_url: "https://id.example/keys"}
"""


def test_gpus_that_cannot_be_read_are_said_to_be_missing_and_not_zero() -> None:
    def missing() -> Sequence[GpuReading]:
        raise Unavailable("GPUs cannot be read", why="NVML: NVML Shared Library Not Found")

    found = checks.gpu_metrics(missing)
    assert (found.outcome, found.found) == (
        Outcome.DOUBTFUL,
        "GPUs cannot be read: NVML: NVML Shared Library Not Found",
    )
    assert "missing, not zero" in found.do
    assert checks.gpu_metrics(lambda: [GpuReading("0", utilisation_percent=3.0)]).outcome is Outcome.WELL
    assert "not how busy 1" in checks.gpu_metrics(lambda: [GpuReading("1", memory_used_gib=3.0)]).found
    assert checks.gpu_metrics(tuple).found == "NVML tells of no GPU"


def refused(*_: object) -> bytes:
    raise ConnectionRefusedError("Connection refused")


def test_the_driver_and_its_gpus_are_named_and_without_one_it_is_said_what_works() -> None:
    def smi(command: Sequence[str]) -> str:
        assert command[0] == "nvidia-smi"
        return "NVIDIA H200, 570.12\nNVIDIA H200, 570.12\n"

    def missing(command: Sequence[str]) -> str:
        raise subprocess.CalledProcessError(9, list(command))

    def nowhere(command: Sequence[str]) -> str:
        raise FileNotFoundError(2, "No such file or directory", command[0])

    assert checks.driver(smi).found == "2 x NVIDIA H200, driver 570.12"
    assert checks.driver(lambda _: "").outcome is Outcome.BROKEN
    assert "not installed" in checks.driver(nowhere).found
    without = checks.driver(missing)
    assert without.outcome is Outcome.DOUBTFUL
    assert "emulated" in without.do


def test_vllm_is_named_with_its_version() -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    assert checks.vllm(lambda _: "0.26.0") == Check("vLLM", Outcome.WELL, "version 0.26.0")
    assert "fleetune[vllm]" in checks.vllm(missing).do


@pytest.mark.parametrize(("free", "outcome"), [(0.5, "broken"), (2, "doubtful"), (50, "well")])
def test_a_disk_that_fills_up_is_told_before_it_is_full(tmp_path: Path, free: float, outcome: str) -> None:
    found = checks.disk(tmp_path / "not" / "there" / "yet", usage=lambda _: (0, 0, int(free * GIB)))
    assert found.outcome == outcome


def test_how_far_and_to_which_side_a_clock_stands_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    for apart_s, said in ((3600, "1:00:00 ahead of"), (-90, "0:01:30 behind")):
        found = checks.clock(tmp_path, lambda: NOW, partial(after, apart_s))
        assert said in found.found
        assert "timedatectl" in found.do


@pytest.mark.parametrize(("apart_s", "outcome"), [(0.2, "well"), (-90, "doubtful"), (3600, "doubtful")])
def test_a_wall_clock_that_was_set_is_told(tmp_path: Path, apart_s: float, outcome: str) -> None:
    wall = NOW + timedelta(seconds=apart_s)
    assert checks.clock(tmp_path, lambda: NOW, lambda: wall).outcome is Outcome.LEFT_OUT
    (tmp_path / FILE).touch()
    assert checks.clock(tmp_path, lambda: NOW, lambda: wall).outcome == outcome


@pytest.mark.parametrize(
    ("up", "open_", "told", "do"),
    [
        (False, (), "all free", ""),
        (True, (8700, 8000, 8001), "all answer", ""),
        (True, (8700, 8001), "it is up, but nothing answers at 8000 (gateway)", "logs/gateway.log"),
        (False, (8000,), "it is not up, and 8000 (gateway) is taken by nginx (process 7)", "--gateway-port N"),
        (False, (8700, 8000, 8001), "it is not up, and 8700 (api) is taken", "--api-port N --gateway-port N"),
    ],
)
def test_ports_all_answer_while_it_is_up_and_none_while_it_is_not(
    tmp_path: Path, up: bool, open_: tuple[int, ...], told: str, do: str
) -> None:
    settings = Settings(data_dir=tmp_path)
    found = checks.ports(settings, up=up, answers=lambda _, port: port in open_, holder=lambda _: "nginx (process 7)")
    assert found.outcome is (Outcome.BROKEN if do else Outcome.WELL)
    assert told in found.found
    assert do in found.do


def test_a_process_that_hangs_is_told_though_its_port_takes_connections() -> None:
    def get(url: str) -> int:
        if "api" in url:
            raise httpx.ReadTimeout("timed out")
        return 200

    urls = {"api": "http://127.0.0.1:8700/api/v1/health", "gateway": "http://127.0.0.1:8000/health"}
    stands = hangs.processes(urls, 3.0, get)
    assert (stands.outcome, stands.found) == (Outcome.BROKEN, "api does not answer (timed out)")
    assert "logs/api.log" in stands.do
    assert hangs.processes(urls, 3.0, lambda _: 200).outcome is Outcome.WELL
    assert hangs.processes(urls, 3.0, lambda _: 401).outcome is Outcome.WELL
    assert hangs.processes(urls, None, lambda _: 503).found == "api answers 503; gateway answers 503"
    stuck = hangs.processes(urls, 75.0, lambda _: 200)
    assert (stuck.outcome, stuck.found) == (Outcome.BROKEN, "the controller finished no pass for 75 s")
    assert "logs/controller.log" in stuck.do


@pytest.mark.parametrize(
    ("why", "do"),
    [
        ('connection failed: FATAL: password authentication failed for user "fleetune"', "password or the user"),
        ("connection to server at 127.0.0.1, port 1 failed: Connection refused", "nothing listens there"),
        ('FATAL: database "fleetune" does not exist', "create it"),
        ("could not translate host name dbb to address", "DNS"),
        ("database or disk is full", "make room"),
        ("file is not a database", "put a copy of it in its place"),
        ("database disk image is malformed", "put a copy of it in its place"),
        ("attempt to write a readonly database", "may this user write"),
        ("unable to open database file", "may this user write"),
        ("something else", "--store-url right?"),
    ],
)
def test_what_to_do_about_a_store_follows_from_what_it_said(why: str, do: str) -> None:
    def down() -> object:
        raise Unavailable("the store postgresql://fleetune:***@db/x cannot be written", why=why, allowed="another")

    found = checks.store(down, "postgresql+psycopg://fleetune:secret@db/x")
    assert (found.outcome, found.found) == (Outcome.BROKEN, f"PostgreSQL: {why}")
    assert do in found.do


def test_looking_at_a_folder_without_an_installation_makes_none(tmp_path: Path) -> None:
    found = examined(tmp_path, prometheus=None, redis=None)
    assert "store" not in {each.name for each in found}
    assert list(tmp_path.iterdir()) == []


def test_which_installation_is_looked_at_is_said_first(tmp_path: Path) -> None:
    assert checks.installation(tmp_path, None).outcome is Outcome.LEFT_OUT
    assert "right --data-dir" in checks.installation(tmp_path, None).do
    (tmp_path / FILE).touch()
    assert "is not up" in checks.installation(tmp_path, None).found
    assert "process 7" in checks.installation(tmp_path, 7).found


def test_a_redis_of_the_gateways_own_variable_is_asked_and_its_password_told_to_nobody() -> None:
    found = checks.redis("redis://:geheim@r:6380/0", refused)
    assert "r:6380: nothing listens there" in found.found
    assert "counts its share of the limits alone" in found.do
    assert "geheim" not in str(found)
    assert "geheim" not in str(checks.redis("redis://:geheim@r:x/0", refused))
    assert checks.redis("redis://r", lambda host, port: b"+PONG" if port == 6379 else b"").outcome is Outcome.WELL


def test_a_store_that_does_not_answer_is_named_without_its_password() -> None:
    def down() -> object:
        raise Unavailable("the store does not answer", why="connection refused")

    found = checks.store(down, "postgresql+psycopg://user:secret@db/fleetune")
    assert (found.outcome, found.found) == (Outcome.BROKEN, "PostgreSQL: connection refused")
    assert "secret" not in str(found)
    assert checks.store(lambda: None, "sqlite:///x").found == "SQLite answers"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [(b'{"keys": [{}]}', "well"), (b'{"keys": []}', "broken"), (b"<html>", "broken"), (b"[]", "broken")],
)
def test_issuers_have_keys(tmp_path: Path, answer: bytes, outcome: str) -> None:
    path = tmp_path / "issuers.yaml"
    path.write_text(ISSUERS)
    assert checks.issuers(path, lambda _: answer).outcome == outcome
    assert checks.issuers(None, lambda _: answer).outcome is Outcome.LEFT_OUT
    path.write_text("issuers: 7")
    assert checks.issuers(path, lambda _: answer).outcome is Outcome.BROKEN


def test_a_prometheus_is_asked_whether_it_is_ready() -> None:
    def no_answer(url: str) -> int:
        raise httpx.ConnectError("Connection refused")

    def ready(url: str) -> int:
        return 200 if url == "http://p:9090/-/ready" else 404

    assert checks.prometheus("http://p:9090/", ready).outcome is Outcome.WELL
    assert checks.prometheus("http://p", lambda _: 503).outcome is Outcome.BROKEN
    assert checks.prometheus("http://p", no_answer).outcome is Outcome.BROKEN
    assert checks.prometheus(None).outcome is Outcome.LEFT_OUT


def test_an_mlflow_that_is_named_is_asked_whether_it_is_well() -> None:
    def no_answer(url: str) -> int:
        raise httpx.ConnectError("Connection refused")

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    def well(url: str) -> int:
        return 200 if url == "http://m:5000/health" else 404

    assert checks.mlflow("http://m:5000", well, lambda _: "3").outcome is Outcome.WELL
    assert checks.mlflow("http://m:5000", lambda _: 503, lambda _: "3").outcome is Outcome.BROKEN
    down = checks.mlflow("http://m:5000", no_answer, lambda _: "3")
    assert (down.outcome, down.found) == (Outcome.BROKEN, "http://m:5000: nothing listens there (connection refused)")
    assert checks.mlflow("http://m:5000", well, missing).do == "pip install 'fleetune[mlflow]'"
    assert checks.mlflow(None).outcome is Outcome.LEFT_OUT


@pytest.mark.parametrize(("said", "outcome"), [(b"+PONG\r\n", "well"), (b"-NOAUTH x", "well"), (b"HTTP/1.1", "broken")])
def test_a_redis_answers_a_ping(said: bytes, outcome: str) -> None:
    assert checks.redis("r:6379", lambda host, port: said).outcome == outcome


@pytest.mark.parametrize("address", ["r", "r:x", ":6379"])
def test_what_is_no_address_of_a_redis_is_said(address: str) -> None:
    assert checks.redis(address).outcome is Outcome.BROKEN
    assert checks.redis("r:6379", refused).outcome is Outcome.BROKEN


def test_a_real_port_is_seen_to_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        settings = Settings(data_dir=tmp_path, api_port=port, gateway_port=port, gateway_admin_port=port)
        assert "all answer" in checks.ports(settings, up=True).found
        assert f"process {os.getpid()}" in checks.ports(settings, up=False).found
