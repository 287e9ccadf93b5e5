"""`fleetune up --fleet kubernetes`: what is wrong with a cluster is one message, and replicas run as pods."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from controlplane import settings as installation
from controlplane.cli.installation.processes import LOST_LEAD
from controlplane.cli.installation.programs import process_command
from controlplane.cli.main import app
from controlplane.domain.engines.fleet import EngineState
from controlplane.reading.service_file import load_service
from controlplane.settings import ClusterAccess, Settings
from controlplane.wiring import control, machine
from controlplane.wiring.shared import Shared
from tests.fakes.kubernetes.cluster import StandIn
from tests.fakes.kubernetes.schemas import resource_of

EXAMPLE = Path(__file__).parents[3] / "examples" / "kubernetes.yaml"
LEASE = resource_of("coordination.k8s.io/v1", "Lease")
Change = Callable[[dict[str, dict[str, Any]]], None]
LABELS = {"nvidia.com/gpu.product": "NVIDIA-H200"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    running = StandIn(tmp_path_factory.mktemp("cluster"))
    running.add_namespace("inference")
    running.add_node("gpu-1", gpus=4, labels=LABELS)
    yield running
    running.stop()


@pytest.fixture
def whole(cluster: StandIn) -> Iterator[StandIn]:
    yield cluster
    cluster.faults.clear()
    cluster.server.is_out = False


def up(folder: Path, file: Path, *words: str) -> Result:
    base = ["up", "-f", str(file), "--data-dir", str(folder / "data")]
    return CliRunner().invoke(app, [*base, *words])


def said(result: Result) -> str:
    return f"{result.output} {result.exception}"


def service_file(folder: Path, change: Change) -> Path:
    described = yaml.safe_load(EXAMPLE.read_text())
    change(described)
    path = folder / "service.yaml"
    path.write_text(yaml.safe_dump(described))
    return path


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--kubeconfig", "/nowhere"], "no cluster in /nowhere"),
        (["--kubeconfig", "KUBECONFIG", "--context", "other"], "no cluster in"),
        (["--kubeconfig", "KUBECONFIG", "--namespace", "absent"], "namespace absent does not exist"),
        (["--kubeconfig", "KUBECONFIG", "--namespace", "default"], "service chat is described for namespace inference"),
    ],
)
def test_a_cluster_that_cannot_be_found_is_one_message(
    whole: StandIn, tmp_path: Path, words: list[str], says: str
) -> None:
    given = [str(whole.kubeconfig("inference")) if word == "KUBECONFIG" else word for word in words]
    done = up(tmp_path, EXAMPLE, "--fleet", "kubernetes", *given)
    assert done.exit_code != 0
    assert says in said(done)


@pytest.mark.parametrize(
    "text",
    ["garbage: [", "just words", "[]", "", "users: 3\ncontexts: 4\n", "current-context: a\ncontexts: [{name: a}]\n"],
    ids=["no YAML", "a word", "a list", "nothing", "numbers", "half a context"],
)
def test_a_file_that_is_no_kubeconfig_is_one_message(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    done = up(tmp_path, EXAMPLE, "--fleet", "kubernetes", "--kubeconfig", str(path))
    assert done.exit_code != 0
    assert f"no cluster in {path}" in said(done)


@pytest.mark.parametrize(
    ("verb", "resource"),
    [("list", "deployments"), ("list", "pods"), ("list", "nodes"), ("patch", "deployments"), ("delete", "pods")],
)
def test_a_missing_right_is_named(whole: StandIn, tmp_path: Path, verb: str, resource: str) -> None:
    whole.faults.forbid(verb, resource)
    done = up(tmp_path, EXAMPLE, "--fleet", "kubernetes", "--kubeconfig", str(whole.kubeconfig("inference")))
    assert done.exit_code != 0
    kind = "a ClusterRole" if resource == "nodes" else "a Role"
    assert f"{kind} with verb {verb} on {resource}" in said(done)


def test_gpus_that_no_node_has_are_named_with_those_there_are(whole: StandIn, tmp_path: Path) -> None:
    def other(described: dict[str, dict[str, Any]]) -> None:
        described["kubernetes"]["node_selector"] = {"nvidia.com/gpu.product": "NVIDIA-H900"}

    file = service_file(tmp_path, other)
    done = up(tmp_path, file, "--fleet", "kubernetes", "--kubeconfig", str(whole.kubeconfig("inference")))
    assert done.exit_code != 0
    assert "nvidia.com/gpu.product=NVIDIA-H900" in said(done)
    assert "nvidia.com/gpu.product=NVIDIA-H200" in said(done)


def _on_no_cluster(described: dict[str, dict[str, Any]]) -> None:
    del described["kubernetes"]


def test_a_service_that_does_not_say_how_it_runs_there_is_refused(whole: StandIn, tmp_path: Path) -> None:
    file = service_file(tmp_path, _on_no_cluster)
    done = up(tmp_path, file, "--fleet", "kubernetes", "--kubeconfig", str(whole.kubeconfig("inference")))
    assert "has no `kubernetes:` section" in said(done)


def _routed(described: dict[str, dict[str, Any]]) -> None:
    described["kubernetes"]["route"] = {"gateway": "public", "hostname": "chat.example.com"}


def _picked(described: dict[str, dict[str, Any]]) -> None:
    route = {"gateway": "public", "hostname": "chat.example.com", "picker": {"service": "picker"}}
    described["kubernetes"]["route"] = route


def _spanning(described: dict[str, dict[str, Any]]) -> None:
    described["kubernetes"]["gpus_per_node"] = 1
    described["engine"]["flags"] = {"tensor-parallel-size": 2}


@pytest.mark.parametrize(
    ("group", "change", "off", "says"),
    [
        ("gateway.networking.k8s.io", _routed, "asks for a route", "the cluster has no Gateway API"),
        ("inference.networking.k8s.io", _picked, "asks for an endpoint picker", "the cluster has no InferencePool"),
        ("leaderworkerset.x-k8s.io", _spanning, "service chat spans nodes", "the cluster has no LeaderWorkerSet"),
    ],
    ids=["routes", "pools", "sets"],
)
def test_an_add_on_that_is_not_installed_is_named_with_what_is_off(
    whole: StandIn, tmp_path: Path, group: str, change: Change, off: str, says: str
) -> None:
    whole.faults.uninstall(group)
    file = service_file(tmp_path, change)
    done = up(tmp_path, file, "--fleet", "kubernetes", "--kubeconfig", str(whole.kubeconfig("inference")))
    assert done.exit_code != 0
    assert off in said(done)
    assert says in said(done)


def test_a_server_that_is_away_is_one_message(whole: StandIn, tmp_path: Path) -> None:
    whole.server.is_out = True
    done = up(tmp_path, EXAMPLE, "--fleet", "kubernetes", "--kubeconfig", str(whole.kubeconfig("inference")))
    assert "does not answer" in said(done)


def test_where_a_cluster_is_says_nothing_without_one(tmp_path: Path) -> None:
    done = up(tmp_path, EXAMPLE, "--namespace", "inference")
    assert "--namespace without a cluster" in said(done)


def test_a_check_of_a_cluster_stores_nothing(whole: StandIn) -> None:
    machine.reach_cluster(whole.kubeconfig("inference"), None, None, [load_service(EXAMPLE)])
    writes = [call for call in whole.faults.calls if call.verb == "patch" and call.resource == "deployments"]
    assert writes
    names = {value["kind"] for _, value in whole.objects.everything()}
    assert "Deployment" not in names


def test_what_a_chart_registers_becomes_pods_that_are_listed_and_nothing_is_left_when_it_stops(
    whole: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = ClusterAccess(namespace="inference", kubeconfig=whole.kubeconfig("inference"))
    settings = Settings(data_dir=tmp_path, cluster=access, store_url=f"sqlite:///{tmp_path}/s.db")
    monkeypatch.setenv(installation.FILE_VARIABLE, str(tmp_path / "given.json"))
    monkeypatch.setenv(installation.STORE_VARIABLE, settings.database)
    (tmp_path / "given.json").write_text(settings.evolve(store_url=None).model_dump_json())
    assert "registered chat" in process(tmp_path, "prepare", "-f", str(EXAMPLE)).output
    shared = Shared(settings)
    one_pass, fleet = control.controller_pass(settings, shared, control.record_feed(settings)), shared.fleet()
    give_up_s = time.monotonic() + 240
    while [engine.state for engine in fleet.list()] != [EngineState.READY] * 2:
        assert time.monotonic() < give_up_s, fleet.list()
        one_pass()
        time.sleep(0.05)
    listed = CliRunner().invoke(app, ["fleet", "list", "-o", "wide", "--data-dir", str(tmp_path)])
    for engine in fleet.list():
        assert engine.pod is not None
        assert engine.pod in listed.output
    assert "gpu-1" in listed.output
    stopped = process(tmp_path, "stop-engines")
    assert (stopped.exit_code, stopped.output) == (0, "every engine is gone\n")
    _await(lambda: "Deployment" not in {value["kind"] for _, value in whole.objects.everything()})


def process(data_dir: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["process", *words, "--data-dir", str(data_dir)])


def test_a_controller_that_loses_the_lease_ends_itself(whole: StandIn, tmp_path: Path) -> None:
    access = ClusterAccess(namespace="inference", kubeconfig=whole.kubeconfig("inference"))
    settings = Settings(data_dir=tmp_path, cluster=access)
    installation.save(settings)
    with subprocess.Popen(process_command(settings, "controller")) as process:
        try:
            _await(lambda: bool(whole.objects.list(LEASE, "inference")))
            whole.objects.change(LEASE, "inference", "fleetune-controller", _of_another)
            assert process.wait(240) == LOST_LEAD
        finally:
            process.kill()


@pytest.mark.slow
def test_the_second_controller_leads_once_the_first_was_killed(whole: StandIn, tmp_path: Path) -> None:
    whole.add_namespace("standby")  # with no lease yet: nobody's must end before the first leads
    access = ClusterAccess(namespace="standby", kubeconfig=whole.kubeconfig("standby"))
    settings = Settings(data_dir=tmp_path, cluster=access)
    installation.save(settings)
    with subprocess.Popen(process_command(settings, "controller")) as first:
        try:
            _await(lambda: _holder(whole) != "")
            killed = _holder(whole)
            with subprocess.Popen(process_command(settings, "controller")) as second:
                try:
                    first.kill()
                    _await(lambda: _holder(whole) not in (killed, ""))
                    assert second.poll() is None
                finally:
                    second.terminate()
        finally:
            first.kill()


def _holder(cluster: StandIn) -> str:
    found = cluster.objects.list(LEASE, "standby")
    return str(found[0]["spec"].get("holderIdentity", "")) if found else ""


def _of_another(lease: dict[str, Any]) -> dict[str, Any]:
    return {**lease, "spec": {**lease["spec"], "holderIdentity": "another"}}


def _await(done: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + 240
    while not done():
        assert time.monotonic() < give_up_s
        time.sleep(0.05)
