"""What `fleetune render` prints is what the adapters apply: on the stand-in, and on a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from kubernetes import client

from controlplane.adapters.fleet_kubernetes.door import Door, Place, open_door
from controlplane.adapters.fleet_kubernetes.fleet import FleetKubernetes
from controlplane.adapters.fleet_kubernetes.manifests import Manifest, manifests, owner_of
from controlplane.adapters.fleet_kubernetes.names import SELECTOR, group_name
from controlplane.adapters.fleet_kubernetes.preflight import check_cluster
from controlplane.adapters.fleet_kubernetes.routes import RouteTraffic
from controlplane.domain.base import EngineId
from controlplane.domain.cluster import ClusterOptions, ModelCache, PickerOptions, RouteOptions
from controlplane.domain.door.routing import Backend, RevisionRoute, RoutingTable, ServiceRoute
from controlplane.domain.engines.fleet import EngineSpec, EngineState
from controlplane.domain.errors import Unavailable
from controlplane.domain.launch import engine_spec
from controlplane.domain.service import ServiceSpec
from controlplane.reading.service_file import load_service
from tests.contract.fleet_on_cluster import ClusterSubject, cluster_options
from tests.contract.fleet_subjects import a_spec, observe_until
from tests.contract.kubernetes_servers import Server
from tests.contract.routes import ROUTE, an_endpoint_slice, data_plane, require_group
from tests.fakes.kubernetes.schemas import Object

EXAMPLE = Path(__file__).parents[2] / "examples" / "kubernetes.yaml"
PLACES = {
    "Deployment": ("apis/apps/v1", "deployments"),
    "Service": ("api/v1", "services"),
    "PodDisruptionBudget": ("apis/policy/v1", "poddisruptionbudgets"),
    "LeaderWorkerSet": ("apis/leaderworkerset.x-k8s.io/v1", "leaderworkersets"),
    "HTTPRoute": ("apis/gateway.networking.k8s.io/v1", "httproutes"),
    "InferencePool": ("apis/inference.networking.k8s.io/v1", "inferencepools"),
}


@pytest.fixture
def subject(server: Server) -> Iterator[ClusterSubject]:
    made = ClusterSubject(server)
    yield made
    made.close()


def described(options: ClusterOptions, **flags: int) -> ServiceSpec:
    spec = load_service(EXAMPLE)
    engine = spec.engine.evolve(flags={**spec.engine.flags, **{n.replace("_", "-"): v for n, v in flags.items()}})
    return spec.evolve(engine=engine, kubernetes=options.evolve(env_from_secret="chat-env"))


def rendered(spec: ServiceSpec, *, budget_s: float | None = None) -> list[Manifest]:
    assert spec.kubernetes is not None
    return manifests(spec, spec.kubernetes, spec.baseline, replicas=1, start_budget_s=budget_s)


def replica(spec: ServiceSpec, name: str = "chat-1", *, budget_s: float | None = None) -> EngineSpec:
    """Return a replica of a service's base flags, as the controller starts it."""
    owner, served = owner_of(spec, spec.baseline), spec.served_by(spec.baseline)
    return engine_spec(
        EngineId(name),
        owner,
        model=served.model,
        engine=served.engine,
        gpus=spec.gpus,
        config=spec.baseline,
        start_budget_s=budget_s,
    )


def run_with(subject: ClusterSubject, spec: ServiceSpec) -> None:
    """Give a subject a fleet for a service."""
    options = spec.kubernetes
    assert options is not None
    subject.fleet.close()
    door = open_door(subject.server.kubeconfig())
    subject.fleet = FleetKubernetes(door, namespace=options.namespace, options=lambda _: options)


def place(manifest: Manifest, server: Server) -> Place:
    return Place(*PLACES[manifest["kind"]], server.namespace)


def as_if_applied(door: Door, server: Server, manifest: Manifest) -> Object:
    """Return what a server would make of a rendered object; nothing is stored."""
    return door.apply(place(manifest, server), manifest, dry_run=True)


def test_objects_of_a_replica_are_those_that_are_rendered(subject: ClusterSubject) -> None:
    server = subject.server
    options = cluster_options(server).evolve(model_cache=ModelCache(claim="models"))
    spec = described(options)
    run_with(subject, spec)
    subject.fleet.start(replica(spec))
    door, found = open_door(server.kubeconfig()), rendered(spec)
    assert [each["kind"] for each in found] == ["Deployment", "Service", "PodDisruptionBudget"]
    for manifest in found:
        live = door.get(place(manifest, server), manifest["metadata"]["name"])
        assert live is not None, manifest
        after = as_if_applied(door, server, manifest)
        assert (after["spec"], after["metadata"]["labels"]) == (live["spec"], live["metadata"]["labels"])


def test_a_start_budget_is_applied_as_it_is_rendered_and_stays_whatever_is_measured_later(
    subject: ClusterSubject,
) -> None:
    server = subject.server
    spec = described(cluster_options(server))
    run_with(subject, spec)
    subject.fleet.start(replica(spec, "chat-1", budget_s=360))
    subject.fleet.start(replica(spec, "chat-2", budget_s=720))
    door, manifest = open_door(server.kubeconfig()), rendered(spec, budget_s=360)[0]
    live = door.get(place(manifest, server), manifest["metadata"]["name"])
    assert live is not None
    assert live["spec"]["replicas"] == 2
    assert as_if_applied(door, server, manifest)["spec"]["template"] == live["spec"]["template"]
    probe = live["spec"]["template"]["spec"]["containers"][0]["startupProbe"]
    assert 360 < probe["failureThreshold"] * probe["periodSeconds"] < 400


def test_what_another_tool_applies_is_no_engine_stops_none_and_is_not_taken_over(subject: ClusterSubject) -> None:
    server = subject.server
    spec = described(cluster_options(server))
    run_with(subject, spec)
    made = rendered(spec)[0]
    assert server.post(place(made, server).path(), made)[0] == 201
    other = a_spec("other-1")
    subject.fleet.start(other)
    observe_until(subject, other.engine_id, EngineState.READY)
    subject.wait(lambda: [engine.spec.engine_id for engine in subject.fleet.list()] == [other.engine_id])
    with pytest.raises(Unavailable, match="another tool applies it"):
        subject.fleet.start(replica(spec))
    live = open_door(server.kubeconfig()).get(place(made, server), made["metadata"]["name"])
    assert live is not None
    assert {each["manager"] for each in live["metadata"]["managedFields"]}.isdisjoint({"fleetune"})


def test_the_set_of_a_replica_that_spans_nodes_is_what_is_rendered_but_for_its_name(subject: ClusterSubject) -> None:
    server = subject.server
    require_group(server, "leaderworkerset.x-k8s.io")
    options = cluster_options(server).evolve(gpus_per_node=2)
    spec = described(options, tensor_parallel_size=4)
    run_with(subject, spec)
    subject.fleet.start(replica(spec))
    door, (manifest, *_) = open_door(server.kubeconfig()), rendered(spec)
    (live,) = door.list(place(manifest, server), labelSelector=SELECTOR)["items"]
    named = json.loads(json.dumps(manifest).replace(manifest["metadata"]["name"], live["metadata"]["name"]))
    assert as_if_applied(door, server, named)["spec"] == live["spec"]


@pytest.mark.parametrize("picker", [None, PickerOptions(service="picker", port=9002)], ids=["services", "pools"])
def test_a_route_all_to_one_revision_is_what_is_rendered(server: Server, picker: PickerOptions | None) -> None:
    if picker is not None:
        require_group(server, "inference.networking.k8s.io")
    how = ROUTE.evolve(picker=picker)
    spec = described(cluster_options(server).evolve(route=how))
    found = [each for each in rendered(spec) if each["kind"] in ("HTTPRoute", "InferencePool")]
    assert [each["kind"] for each in found] == ["HTTPRoute"] if picker is None else ["InferencePool", "HTTPRoute"]
    with data_plane(server):
        write_route(server, spec, how)
    door = open_door(server.kubeconfig())
    for manifest in found:
        live = door.get(place(manifest, server), manifest["metadata"]["name"])
        assert live is not None, manifest
        assert (manifest["spec"], manifest["metadata"]["labels"]) == (live["spec"], live["metadata"]["labels"])


def write_route(server: Server, spec: ServiceSpec, how: RouteOptions) -> None:
    """Let the router send everything to a service's base flags; whether a gateway takes that is not waited for."""
    owner = owner_of(spec, spec.baseline)
    ready = Backend(engine_id="e-1", url="http://192.0.2.1:8000")
    revision = RevisionRoute(revision=owner.revision, weight_percent=100, backends=(ready,))
    service = ServiceRoute(service=spec.name, model="m", revisions=(revision,))
    server.discovery.create_namespaced_endpoint_slice(server.namespace, an_endpoint_slice(group_name(owner)))
    router = RouteTraffic(open_door(server.kubeconfig()), server.namespace, options=lambda _: how, settle_s=0)
    with suppress(Unavailable):
        router.apply(RoutingTable(version=1, services=(service,)))
    router.close()


def test_every_object_of_a_service_is_asked_about_before_it_starts_and_none_is_made(server: Server) -> None:
    if server.stand_in is None:
        pytest.skip("calls of a real server are not listened to")
    server.add_node(gpus=1)
    spec = described(cluster_options(server).evolve(route=ROUTE.evolve(picker=PickerOptions(service="picker"))))
    door = open_door(server.kubeconfig())
    server.stand_in.faults.calls.clear()
    check_cluster(door, server.namespace, [spec])
    asked = {
        call.resource for call in server.stand_in.faults.calls if call.verb == "patch" and call.agent == "fleetune"
    }
    assert asked == {place(each, server).plural for each in rendered(spec)}
    assert all(door.get(place(each, server), each["metadata"]["name"]) is None for each in rendered(spec))


def test_a_route_that_somebody_else_changed_keeps_no_installation_from_starting(server: Server) -> None:
    server.add_node(gpus=1)
    spec = described(cluster_options(server).evolve(route=ROUTE))
    with data_plane(server):
        write_route(server, spec, ROUTE)
    rules = [{"backendRefs": [{"name": "theirs", "port": 80}]}]
    client.CustomObjectsApi(server.api).patch_namespaced_custom_object(
        *("gateway.networking.k8s.io", "v1", server.namespace, "httproutes", "chat", {"spec": {"rules": rules}}),
        field_manager="kubectl-edit",
        _content_type="application/merge-patch+json",
    )
    check_cluster(open_door(server.kubeconfig()), server.namespace, [spec])
