"""Every object that Fleetune writes, or gives to others to apply, is taken by a server: asked strictly, not stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from controlplane.adapters.fleet_kubernetes.autoscaler import Scaling, pod_autoscaler, scaled_object
from controlplane.adapters.fleet_kubernetes.load_job import WorkerPod, load_job
from controlplane.adapters.fleet_kubernetes.manifests import manifests, owner_of
from controlplane.domain.cluster import ModelCache, PickerOptions, RouteOptions
from controlplane.domain.load_pods import LoadPods
from controlplane.domain.operations.replica_capacity import Estimate, ReplicaCapacity, Source
from controlplane.domain.service import ServiceSpec
from controlplane.reading.service_file import load_service
from tests.contract.kubernetes_servers import Server
from tests.fakes.kubernetes.schemas import Object, resource_of
from tests.unit.deploy.charts import EXAMPLES, of_example

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "kubernetes.yaml"
FILES = (ROOT / "deploy" / "kubernetes" / "rights.yaml", ROOT / "deploy" / "gitops" / "analysis-template.yaml")


def refusals(server: Server, values: Sequence[Object]) -> list[str]:
    """Return what a server has against objects. On a real one kinds that are not installed there are left out."""
    answers = [(value, *asked(server, value)) for value in values]
    assert any(code == 201 for _, code, _ in answers)
    refused = [each for each in answers if each[1] != 201]
    if server.stand_in is None:
        refused = [(v, c, s) for v, c, s in refused if c != 404 or not resource_of(v["apiVersion"], v["kind"]).custom]
    return [f"{value['kind']} {value['metadata']['name']}: {code} {said}" for value, code, said in refused]


def asked(server: Server, value: Object) -> tuple[int, str]:
    resource = resource_of(value["apiVersion"], value["kind"])
    within = f"/namespaces/{server.namespace}" if resource.namespaced else ""
    root = f"/apis/{resource.api_version}" if resource.group else f"/api/{resource.version}"
    metadata = {name: each for name, each in value["metadata"].items() if name != "namespace"}
    here = {**value, "metadata": metadata | ({"namespace": server.namespace} if resource.namespaced else {})}
    return server.post(f"{root}{within}/{resource.plural}", here, dryRun="All", fieldValidation="Strict")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_object_of_the_chart_is_taken(server: Server, example: Path) -> None:
    assert refusals(server, of_example(example)) == []


def test_every_file_that_is_given_to_others_is_taken(server: Server) -> None:
    values = [each for path in FILES for each in yaml.safe_load_all(path.read_text())]
    for each in values:
        for subject in each.get("subjects", []):
            subject["namespace"] = server.namespace  # the file says to name it
    assert refusals(server, values) == []


def services() -> Iterator[tuple[str, ServiceSpec, dict[str, int]]]:
    """Every way in which a service lives on a cluster."""
    spec = load_service(EXAMPLE)
    assert spec.kubernetes is not None
    route = RouteOptions(gateway="public", gateway_namespace="gateways", section="https", hostname="chat.example.com")
    ways = {
        "plain": spec.kubernetes,
        "routed": spec.kubernetes.evolve(route=route),
        "picked": spec.kubernetes.evolve(route=route.evolve(picker=PickerOptions(service="picker"))),
        "cached": spec.kubernetes.evolve(model_cache=ModelCache(host_path="/models")),
        "tainted": spec.kubernetes.evolve(tolerations={"spot": "true", "a": ""}),
        "ranked": spec.kubernetes.evolve(priority_class="serving", trial_priority_class="trials"),
    }
    for name, options in ways.items():
        yield name, spec.evolve(kubernetes=options), {}
    yield "spanning", spec.evolve(kubernetes=spec.kubernetes.evolve(gpus_per_node=2)), {"tensor-parallel-size": 4}


@pytest.mark.parametrize(("spec", "flags"), [each[1:] for each in services()], ids=[each[0] for each in services()])
def test_every_object_of_a_service_is_taken(server: Server, spec: ServiceSpec, flags: dict[str, int]) -> None:
    assert spec.kubernetes is not None
    found = manifests(spec, spec.kubernetes, spec.baseline.with_flags(flags), replicas=2)
    assert refusals(server, found) == []


@pytest.mark.parametrize("in_rollout", [False, True])
def test_every_autoscaler_is_taken(server: Server, in_rollout: bool) -> None:
    spec = load_service(EXAMPLE)
    assert spec.kubernetes is not None
    rate, crowd = Estimate(value=6.5, low=6, high=7), Estimate(value=13, low=12, high=14)
    capacity = ReplicaCapacity(source=Source.TRIAL, rate_rps=rate, concurrent=crowd)
    scaling = Scaling(
        capacity=capacity, headroom=0.2, max_replicas=4, prometheus_url="http://prometheus:9090", in_rollout=in_rollout
    )
    owner = owner_of(spec, spec.baseline)
    found = [make(spec, owner, spec.kubernetes, scaling) for make in (scaled_object, pod_autoscaler)]
    assert refusals(server, found) == []


def test_a_job_of_load_generators_is_taken(server: Server) -> None:
    worker = WorkerPod("worker-0", "00000000-0000-0000-0000-000000000000", "192.0.2.1", server.namespace)
    assert refusals(server, [load_job(worker, LoadPods(image="control:1"), processes=4, port=5557)]) == []
