"""What `fleetune render` prints: valid to the letter, the same every time, and with nothing secret in it."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from pydantic import BaseModel, ValidationError
from typer.testing import CliRunner

from controlplane.adapters.fleet_kubernetes.manifests import Manifest, as_yaml, manifests
from controlplane.cli.main import app
from controlplane.domain.cluster import ClusterOptions, ModelCache, PickerOptions, RouteOptions
from controlplane.domain.errors import InvalidInput
from controlplane.domain.service import ServiceSpec
from controlplane.reading.service_file import load_service
from controlplane.services.fleet.serving import register_service
from controlplane.services.rollouts.manage import start_rollout
from controlplane.settings import Settings, save
from controlplane.wiring.machine import open_store
from tests.builders_serving import NOW, a_study, a_trial
from tests.fakes.kubernetes.schemas import broken_rules, flaws, resource_of

EXAMPLE = Path(__file__).parents[3] / "examples" / "kubernetes.yaml"
GPUS = {"nvidia.com/gpu": "8"}
GOLDEN = Path(__file__).parent / "golden.yaml"
MODELS: dict[str, type[BaseModel]] = {
    "Deployment": client.V1Deployment,
    "Service": client.V1Service,
    "PodDisruptionBudget": client.V1PodDisruptionBudget,
}


def rendered(spec: ServiceSpec, *, replicas: int = 2, **flags: int) -> list[Manifest]:
    assert spec.kubernetes is not None
    config = spec.baseline.with_flags({name.replace("_", "-"): value for name, value in flags.items()})
    return manifests(spec, spec.kubernetes, config, replicas=replicas)


def pod(found: list[Manifest]) -> Any:
    return found[0]["spec"]["template"]["spec"]


@pytest.fixture
def spec() -> ServiceSpec:
    return load_service(EXAMPLE)


def test_the_example_renders_to_exactly_the_golden_file(spec: ServiceSpec) -> None:
    assert as_yaml(rendered(spec)) == GOLDEN.read_text()


@pytest.mark.parametrize("flags", [{}, {"tensor_parallel_size": 4}, {"shutdown_timeout": 5}])
def test_every_manifest_is_valid_to_the_letter(spec: ServiceSpec, flags: dict[str, int]) -> None:
    for manifest in yaml.safe_load_all(as_yaml(rendered(spec, **flags))):
        MODELS[manifest["kind"]].model_validate(manifest)


@pytest.mark.parametrize(
    ("picker", "kinds"),
    [(None, ["HTTPRoute"]), (PickerOptions(service="picker"), ["InferencePool", "HTTPRoute"])],
    ids=["services", "pools"],
)
def test_a_service_with_a_route_has_it_behind_the_others_all_to_this_revision(
    spec: ServiceSpec, picker: PickerOptions | None, kinds: list[str]
) -> None:
    assert spec.kubernetes is not None
    route = RouteOptions(gateway="public", hostname="chat.example.com", picker=picker)
    found = rendered(spec.evolve(kubernetes=spec.kubernetes.evolve(route=route)))
    assert found[:3] == rendered(spec)
    assert [each["kind"] for each in found[3:]] == kinds
    for each in found[3:]:
        resource = resource_of(each["apiVersion"], each["kind"])
        assert [*flaws(each, resource), *broken_rules(each, resource)] == []
    (back_end,) = found[-1]["spec"]["rules"][0]["backendRefs"]
    assert (back_end["name"], back_end["weight"]) == (found[0]["metadata"]["name"], 100)


def test_the_check_itself_refuses_an_unknown_field_and_a_wrong_type(spec: ServiceSpec) -> None:
    deployment = rendered(spec)[0]
    for broken in ({**deployment, "specc": {}}, {**deployment, "spec": {**deployment["spec"], "replicas": "two"}}):
        with pytest.raises(ValidationError):
            client.V1Deployment.model_validate(broken)


def test_other_flags_are_another_deployment_and_other_replicas_the_same_pods(spec: ServiceSpec) -> None:
    few, many, other = rendered(spec, replicas=1), rendered(spec, replicas=9), rendered(spec, max_num_seqs=64)
    assert few[0]["metadata"] == many[0]["metadata"]
    assert few[0]["spec"]["template"] == many[0]["spec"]["template"]
    assert other[0]["metadata"]["name"] != few[0]["metadata"]["name"]


def test_a_pod_has_time_to_finish_what_it_began(spec: ServiceSpec) -> None:
    assert spec.kubernetes is not None
    for flags, engine_s in (({}, 30), ({"shutdown_timeout": 300}, 300)):
        found = pod(rendered(spec, **flags))
        assert found["terminationGracePeriodSeconds"] > spec.kubernetes.drain_s + engine_s
        assert found["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1] == str(spec.kubernetes.drain_s)


def test_a_pod_has_no_right_it_does_not_need(spec: ServiceSpec) -> None:
    found = pod(rendered(spec))
    guard = found["containers"][0]["securityContext"]
    assert (guard["privileged"], guard["allowPrivilegeEscalation"], guard["readOnlyRootFilesystem"]) == (
        False,
        False,
        True,
    )
    assert guard["capabilities"] == {"drop": ["ALL"]}
    assert (found["securityContext"]["runAsNonRoot"], found["automountServiceAccountToken"]) == (True, False)


class _Metrics(BaseHTTPRequestHandler):
    """Says one request is running, then none."""

    left: Iterator[int]

    def do_GET(self) -> None:
        running = next(self.left)
        self.send_response(200)
        self.end_headers()
        lines = f'vllm:num_requests_running{{engine="0"}} {running}.0\nvllm:num_requests_waiting{{engine="0"}} 0.0\n'
        self.wfile.write(f"# HELP x\n{lines}vllm:num_requests_waiting_by_reason 7.0\n".encode())

    def log_message(self, *_: object) -> None:
        pass


def test_the_hook_before_a_stop_waits_until_no_request_is_in_flight(spec: ServiceSpec) -> None:
    _Metrics.left = iter([1, 0])
    command = pod(rendered(spec))["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    with HTTPServer(("127.0.0.1", 0), _Metrics) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/metrics"
        done = subprocess.run([*command[:3], url, "60"], check=False)
        server.shutdown()
    assert (done.returncode, list(_Metrics.left)) == (0, [])


def test_gpus_follow_the_flags(spec: ServiceSpec) -> None:
    limits = pod(rendered(spec, tensor_parallel_size=4))["containers"][0]["resources"]["limits"]
    assert limits == {"nvidia.com/gpu": "4"}


def test_values_of_variables_are_never_written_only_where_they_are(spec: ServiceSpec) -> None:
    secret = spec.evolve(engine=spec.engine.evolve(env={"HF_TOKEN": "planted-secret"}))
    assert "planted-secret" not in as_yaml(rendered(secret))
    named = {each["name"]: each for each in pod(rendered(secret))["containers"][0]["env"]}
    assert named["HF_TOKEN"]["valueFrom"] == {"secretKeyRef": {"name": "chat-env", "key": "HF_TOKEN"}}


def test_a_service_whose_name_begins_with_a_digit_has_objects_that_begin_with_a_letter(spec: ServiceSpec) -> None:
    found = rendered(spec.evolve(name="7b-chat"))
    assert {bool(re.fullmatch(r"r-7b-chat-[a-z0-9-]+", each["metadata"]["name"])) for each in found} == {True}


def test_a_variable_of_the_service_s_own_stands_in_place_of_ours_and_is_said_once(spec: ServiceSpec) -> None:
    own = spec.evolve(engine=spec.engine.evolve(env={"HOME": "/elsewhere"}))
    names = [each["name"] for each in pod(rendered(own))["containers"][0]["env"]]
    assert (names.count("HOME"), "valueFrom" in pod(rendered(own))["containers"][0]["env"][-1]) == (1, True)


@pytest.mark.parametrize("path", ["/tmp", "/dev/shm/", "/scratch"])
def test_models_where_the_pod_has_another_volume_are_refused(spec: ServiceSpec, path: str) -> None:
    assert spec.kubernetes is not None
    cache = ModelCache(claim="models", mount_path=path)
    with pytest.raises(InvalidInput, match="another volume"):
        rendered(spec.evolve(kubernetes=spec.kubernetes.evolve(model_cache=cache)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"env_from_secret": None}, "needs a Secret"),
        ({"gpus_per_node": 2}, "does not fill whole nodes of 2"),
    ],
)
def test_what_a_cluster_cannot_run_is_refused(spec: ServiceSpec, change: dict[str, Any], says: str) -> None:
    assert spec.kubernetes is not None
    changed = spec.evolve(kubernetes=spec.kubernetes.evolve(**change))
    with pytest.raises(InvalidInput, match=says):
        rendered(changed, tensor_parallel_size=3)


def test_an_emulator_spans_no_nodes(spec: ServiceSpec) -> None:
    emulated = spec.evolve(engine=spec.engine.evolve(kind="emulator"))
    with pytest.raises(InvalidInput, match="kind emulator cannot span 2 nodes"):
        rendered(emulated, tensor_parallel_size=16)


def test_a_replica_larger_than_a_node_is_a_set_valid_to_the_letter(spec: ServiceSpec) -> None:
    made, service, budget = rendered(spec, tensor_parallel_size=8, pipeline_parallel_size=2)
    resource = resource_of(made["apiVersion"], made["kind"])
    assert (resource.kind, flaws(made, resource), broken_rules(made, resource)) == ("LeaderWorkerSet", [], [])
    template = made["spec"]["leaderWorkerTemplate"]
    assert (made["spec"]["replicas"], template["size"]) == (2, 2)
    for part in ("leaderTemplate", "workerTemplate"):
        client.V1PodTemplateSpec.model_validate(template[part])
    leader, worker = (template[part]["spec"]["containers"][0] for part in ("leaderTemplate", "workerTemplate"))
    assert leader["resources"] == worker["resources"] == {name: GPUS for name in ("limits", "requests")}
    assert worker["args"] == [*leader["args"], "--headless"]
    assert leader["args"][-6:] == [
        *("--nnodes", "2", "--node-rank", "$(LWS_WORKER_INDEX)", "--master-addr", "$(LWS_LEADER_ADDRESS)")
    ]
    assert not {"ports", "readinessProbe", "livenessProbe", "lifecycle"} & set(worker)
    for each in (service["spec"]["selector"], budget["spec"]["selector"]["matchLabels"]):
        assert each["leaderworkerset.sigs.k8s.io/worker-index"] == "0"


@pytest.mark.parametrize("image", ["vllm/vllm-openai:latest", "vllm/vllm-openai", "x@sha256:12", f"X Y@sha256:{0:064}"])
def test_an_image_that_is_not_pinned_is_refused(image: str) -> None:
    with pytest.raises(ValidationError):
        ClusterOptions(image=image)


@pytest.mark.parametrize("cache", [{}, {"claim": "a", "host_path": "/a"}, {"claim": "Not A Label"}])
def test_a_model_cache_has_one_source(cache: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        ModelCache.model_validate(cache)


def test_the_command_prints_the_manifests(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["render", "-f", str(EXAMPLE), "--replicas", "2"])
    assert (done.exit_code, done.output) == (0, GOLDEN.read_text())


def test_a_revision_that_is_named_is_printed_with_the_start_budget_it_was_given(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    save(settings)
    store, spec = open_store(settings), load_service(EXAMPLE)
    service = register_service(store, spec, actor="test", now=NOW)
    config = spec.baseline.with_flags({"max-num-seqs": 64})
    store.save_study(a_study(spec=spec, service=spec.service), 0)
    store.save_trial(a_trial(config=config, startup_s=150), 0)
    canary = start_rollout(store, service=spec.service, config=config, replicas=1, actor="test", now=NOW).canary
    store.close()

    def threshold(revision: str | None) -> int:
        words = ["render", "-f", str(EXAMPLE), "--data-dir", str(tmp_path), "--revision", str(revision)]
        made = next(yaml.safe_load_all(CliRunner().invoke(app, words, catch_exceptions=False).output))
        return int(made["spec"]["template"]["spec"]["containers"][0]["startupProbe"]["failureThreshold"])

    assert (threshold(service.stable), threshold(canary)) == (186, 96)  # of five seconds: 900 s as declared, 450 s


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--revision", "rev-1", "--set", "a=1"], "a revision's flags are fixed"),
        (["--revision", "rev-none"], "has no|no service|no installation"),
    ],
)
def test_bad_input_of_the_command_is_one_message(tmp_path: Path, words: list[str], says: str) -> None:
    save(Settings(data_dir=tmp_path))
    done = CliRunner().invoke(app, ["render", "-f", str(EXAMPLE), "--data-dir", str(tmp_path), *words])
    assert done.exit_code != 0
    assert re.search(says, str(done.exception) + done.output)


@pytest.mark.parametrize("image", ["engine:latest", "Registry/engine@sha256:" + "0" * 64, "engine@sha256:abc", ""])
def test_an_image_that_is_not_pinned_is_told_what_is_wanted(image: str) -> None:
    with pytest.raises(ValidationError, match="registry/name@sha256:<64 hex digits>"):
        ClusterOptions(image=image)
