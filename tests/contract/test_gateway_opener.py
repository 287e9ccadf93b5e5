"""What every GatewayOpener does: the fake before emulated engines in virtual time, real gateways before emulators."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from controlplane.adapters.gateway.opener import GatewayProcesses
from controlplane.adapters.loadtester_locust import LocustLoadTester
from controlplane.domain.base import EngineId, RevisionId
from controlplane.domain.door.routing import Backend, RevisionRoute, ServiceRoute
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.fleet import EngineSpec
from controlplane.domain.errors import Unavailable
from controlplane.domain.workload import Lengths, SyntheticWorkload
from controlplane.ports.gateways import GatewayOpener, OpenGateway
from controlplane.ports.load import LoadRequest, LoadTester
from tests.fakes.fleet import FakeFleet
from tests.fakes.gateways import FakeGateways
from tests.fakes.twin_load import TwinLoadTester
from tests.integration.emulators import MODEL, emulator

WORKLOAD = SyntheticWorkload(prompt_tokens=Lengths(mean=50), output_tokens=Lengths(mean=8))


@dataclass(frozen=True)
class Subject:
    """Gateways, two engines to put behind one, and what loads them."""

    gateways: GatewayOpener
    tester: LoadTester
    urls: Sequence[str]


@pytest.fixture(scope="module")
def engines() -> Iterator[Sequence[str]]:
    """Two emulators behind one gateway after the other, which leave nothing in them."""
    with emulator() as one, emulator() as other:
        yield [one.url, other.url]


@pytest.fixture(params=["fake", "processes", "reached-by-others"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    if request.param == "fake":
        yield _fake()
        return
    host = "127.0.0.1" if request.param == "processes" else "0.0.0.0"
    with LocustLoadTester() as tester:
        yield Subject(GatewayProcesses(host=host), tester, request.getfixturevalue("engines"))


def _fake() -> Subject:
    fleet, gateways = FakeFleet(gpus=2), FakeGateways()
    config = EngineConfig(flags={"max-model-len": 8192})
    specs = [
        EngineSpec(
            engine_id=EngineId(f"e-{number}"),
            owner="trial/test/1",
            kind=EngineKind.EMULATOR,
            model="llama-8b",
            served_name=MODEL,
            config=config,
            gpus=1,
        )
        for number in range(2)
    ]
    urls = [fleet.start(spec).url or "" for spec in specs]
    return Subject(gateways, TwinLoadTester(fleet, fleet.clock, gpu="H200", gateways=gateways), urls)


def level_at(gateway: OpenGateway) -> LoadRequest:
    return LoadRequest(
        workload=WORKLOAD, rate_rps=20, url=gateway.url, model=MODEL, duration_s=2, api_key=gateway.api_key
    )


def route(urls: Sequence[str]) -> ServiceRoute:
    backends = tuple(Backend(engine_id=f"e-{number}", url=url) for number, url in enumerate(urls))
    revision = RevisionRoute(revision=RevisionId("check"), weight_percent=100, backends=backends)
    return ServiceRoute(service="chat", model=MODEL, revisions=(revision,))


def test_load_through_a_gateway_is_answered_whole(subject: Subject, tmp_path: Path) -> None:
    with subject.gateways.open(route(subject.urls), folder=tmp_path / "gateway") as gateway:
        level = level_at(gateway)
        report, _ = subject.tester.run(level, out_dir=tmp_path / "level")
    assert report.requests > 20
    assert (report.completed, report.errors, report.truncated) == (report.requests, 0, 0)


def test_a_gateway_lives_no_longer_than_it_is_held(subject: Subject, tmp_path: Path) -> None:
    with subject.gateways.open(route(subject.urls), folder=tmp_path) as (first, _):
        pass
    with subject.gateways.open(route(subject.urls), folder=tmp_path) as (second, _):
        assert first != second
    if isinstance(subject.gateways, FakeGateways):
        assert list(subject.gateways.engines_at(first)) == [first]
        return
    with pytest.raises(httpx.ConnectError):
        httpx.get(first, trust_env=False, verify=False, timeout=240)


def test_a_gateway_that_others_reach_answers_nobody_without_its_key(tmp_path: Path) -> None:
    with GatewayProcesses(host="0.0.0.0").open(route([]), folder=tmp_path) as gateway:
        asked = {"model": MODEL, "prompt": "a", "max_tokens": 1}
        url, named = f"{gateway.url}/v1/completions", {"Authorization": f"Bearer {gateway.api_key}"}
        codes = [
            httpx.post(url, json=asked, headers=each, trust_env=False, timeout=240).status_code for each in ({}, named)
        ]
        assert codes == [401, 503]  # nobody is behind it
    assert str(gateway.api_key) not in "".join(each.read_text() for each in tmp_path.glob("*.log"))


def test_requests_reach_every_engine(tmp_path: Path) -> None:
    with emulator() as one, emulator() as other, LocustLoadTester() as tester:
        with GatewayProcesses().open(route([one.url, other.url]), folder=tmp_path) as gateway:
            level = level_at(gateway)
            report, _ = tester.run(level, out_dir=tmp_path / "level")
        served = [_served(engine.url) for engine in (one, other)]
    assert sum(served) == report.requests
    assert min(served) > 0


def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    opened = GatewayProcesses().open(route([]), folder=tmp_path / "file" / "gateway")
    with pytest.raises(Unavailable, match="cannot write"), opened:
        pass


def test_a_gateway_ends_with_a_killed_owner_and_the_next_one_opens_beside_its_files(tmp_path: Path) -> None:
    code = """
        import sys, time
        from pathlib import Path
        from controlplane.adapters.gateway.opener import GatewayProcesses
        from tests.contract.test_gateway_opener import route
        with GatewayProcesses().open(route([]), folder=Path(sys.argv[1])):
            print("open", flush=True)
            time.sleep(600)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "open\n"
        (gateway,) = psutil.Process(owner.pid).children()
        owner.kill()
    psutil.wait_procs([gateway], timeout=240)
    assert not gateway.is_running()
    with GatewayProcesses().open(route([]), folder=tmp_path) as (url, _):
        assert httpx.get(f"{url}/health", trust_env=False, verify=False, timeout=240).status_code in (200, 503)


def _served(url: str) -> int:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        lines = httpx.get(f"{url}/metrics", trust_env=False, verify=False, timeout=240).text.splitlines()
        counts = [line for line in lines if line.startswith("vllm:request_success_total")]
        if counts:
            return int(sum(float(line.rpartition(" ")[2]) for line in counts))
        time.sleep(0.1)
    raise AssertionError("the emulator says nothing of finished requests")
