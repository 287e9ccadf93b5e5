"""What only a router by HTTPRoutes meets: a gateway that does not take them, hands of others, no Gateway API at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client

from controlplane.adapters.fleet_kubernetes.door import open_door
from controlplane.adapters.fleet_kubernetes.routes import RouteTraffic
from controlplane.domain.base import RevisionId
from controlplane.domain.cluster import PickerOptions, RouteOptions
from controlplane.domain.door.routing import Backend, RevisionRoute, RoutingTable, ServiceRoute
from controlplane.domain.errors import StaleVersion, Unavailable
from tests.contract.kubernetes_servers import Server, wait
from tests.contract.routes import ROUTE, an_endpoint_slice, data_plane, require_group
from tests.fakes.kubernetes.data_plane import DataPlane

GROUP, VERSION, PLURAL = "gateway.networking.k8s.io", "v1", "httproutes"
MERGE = "application/merge-patch+json"
BACKEND = Backend(engine_id="e", url="http://127.0.0.1:1")


def table(version: int, *, canary: int = 0, service: str = "chat") -> RoutingTable:
    weights = {"rev-1": 100 - canary, "rev-2": canary}
    routes = tuple(
        RevisionRoute(revision=RevisionId(name), weight_percent=weight, backends=(BACKEND,))
        for name, weight in weights.items()
    )
    return RoutingTable(version=version, services=(ServiceRoute(service=service, model="m", revisions=routes),))


@pytest.fixture
def plane(server: Server) -> Iterator[DataPlane]:
    with data_plane(server) as running:
        for name in ("chat-rev-1", "chat-rev-2"):
            spec = client.V1ServiceSpec(ports=[client.V1ServicePort(port=8000)])  # whose endpoints are the test's
            meta = client.V1ObjectMeta(name=name)
            server.core.create_namespaced_service(server.namespace, client.V1Service(metadata=meta, spec=spec))
            server.discovery.create_namespaced_endpoint_slice(server.namespace, an_endpoint_slice(name))
        yield running


@pytest.fixture
def routed() -> dict[str, RouteOptions]:
    return {"chat": ROUTE}


@pytest.fixture
def router(server: Server, plane: DataPlane, routed: dict[str, RouteOptions]) -> Iterator[RouteTraffic]:
    made = RouteTraffic(open_door(server.kubeconfig()), server.namespace, options=routed.get, settle_s=20)
    yield made
    made.close()


def routes(server: Server) -> list[Any]:
    answer: Any = client.CustomObjectsApi(server.api).list_namespaced_custom_object(
        GROUP, VERSION, server.namespace, PLURAL
    )
    found: list[Any] = answer["items"]
    return found


def test_weights_of_revisions_without_a_replica_are_nothing(server: Server, router: RouteTraffic) -> None:
    given = table(1, canary=20)
    stable, canary = given.services[0].revisions
    service = given.services[0].evolve(revisions=(stable, canary.evolve(backends=())))
    router.apply(given.evolve(services=(service,)))
    assert router.weights() == {"chat": {"chat-rev-1": 80, "chat-rev-2": 0}}


def test_a_revision_whose_service_has_no_endpoint_yet_gets_nothing_until_it_has(
    server: Server, router: RouteTraffic
) -> None:
    """A pod is ready before the cluster has said so to its gateway: a request would meet a Service without an end."""
    server.discovery.replace_namespaced_endpoint_slice(
        "chat-rev-2", server.namespace, an_endpoint_slice("chat-rev-2", ready=False)
    )
    given = table(1, canary=20)
    router.apply(given)
    assert router.weights() == {"chat": {"chat-rev-1": 80, "chat-rev-2": 0}}
    assert list(router.actual()) == [given]
    server.discovery.replace_namespaced_endpoint_slice("chat-rev-2", server.namespace, an_endpoint_slice("chat-rev-2"))
    wait(lambda: list(router.actual()) != [given])
    router.apply(table(2, canary=20))
    assert router.weights() == {"chat": {"chat-rev-1": 80, "chat-rev-2": 20}}


def test_a_route_that_is_to_go_to_another_gateway_is_not_in_force_until_it_does(
    server: Server, router: RouteTraffic, routed: dict[str, RouteOptions]
) -> None:
    """Weights and hosts are the same: only the gateway, or its listener, is another."""
    router.apply(table(1, canary=20))
    assert list(router.actual()) == [table(1, canary=20)]
    routed["chat"] = ROUTE.evolve(section="https")
    assert [present and present.services for present in router.actual()] == [()]
    router.apply(table(2, canary=20))
    assert routes(server)[0]["spec"]["parentRefs"][0]["sectionName"] == "https"
    assert list(router.actual()) == [table(2, canary=20)]


def pools(server: Server) -> dict[str, Any]:
    answer: Any = client.CustomObjectsApi(server.api).list_namespaced_custom_object(
        "inference.networking.k8s.io", "v1", server.namespace, "inferencepools"
    )
    return {each["metadata"]["name"]: each["spec"] for each in answer["items"]}


def test_with_an_endpoint_picker_revisions_are_pools_of_its_pods(
    server: Server, router: RouteTraffic, routed: dict[str, RouteOptions]
) -> None:
    """Pools are there before the route that names them, and go with their revision."""
    require_group(server, "inference.networking.k8s.io")
    router.apply(table(1, canary=20))
    assert pools(server) == {}
    routed["chat"] = ROUTE.evolve(picker=PickerOptions(service="picker", port=9002))
    assert list(router.actual()) != [table(1, canary=20)]  # Services are not what is wanted now
    router.apply(table(2, canary=20))
    (rule,) = routes(server)[0]["spec"]["rules"]
    assert [(ref["kind"], ref["name"], ref["weight"]) for ref in rule["backendRefs"]] == [
        ("InferencePool", "chat-rev-1", 80),
        ("InferencePool", "chat-rev-2", 20),
    ]
    found = pools(server)["chat-rev-2"]
    assert found["selector"]["matchLabels"]["fleetune.dev/revision"] == "rev-2"
    assert found["endpointPickerRef"]["name"] == "picker"
    alone = table(3).services[0]
    router.apply(RoutingTable(version=3, services=(alone.evolve(revisions=alone.revisions[:1]),)))
    assert set(pools(server)) == {"chat-rev-1"}
    routed["chat"] = ROUTE
    router.apply(table(4))
    assert pools(server) == {}


def test_without_the_inference_extension_it_is_one_message(
    server: Server, router: RouteTraffic, routed: dict[str, RouteOptions]
) -> None:
    if server.stand_in is None:
        pytest.skip("definitions of a real server are not taken away")
    server.stand_in.faults.uninstall("inference.networking.k8s.io")
    router.apply(table(1))  # who asks for none does without
    routed["chat"] = ROUTE.evolve(picker=PickerOptions(service="picker"))
    with pytest.raises(Unavailable, match="the cluster has no InferencePool"):
        router.apply(table(2))


def test_nothing_is_known_before_the_first_table_and_nothing_asked_where_no_service_has_a_route(
    server: Server, router: RouteTraffic
) -> None:
    assert list(router.actual()) == [None]
    router.apply(table(1, service="other"))
    assert list(router.actual()) == []
    assert routes(server) == []


def test_a_route_that_its_gateway_did_not_take_is_told_and_counts_once_it_does(
    server: Server, plane: DataPlane, routed: dict[str, RouteOptions]
) -> None:
    hasty = RouteTraffic(open_door(server.kubeconfig()), server.namespace, options=routed.get, settle_s=0)
    plane.is_asleep = True
    with pytest.raises(Unavailable, match="no gateway has looked at it"):
        hasty.apply(table(1))
    assert list(hasty.actual()) == [None]
    plane.is_asleep = False
    wait(lambda: list(hasty.actual()) == [table(1)])
    plane.is_asleep = True
    with pytest.raises(Unavailable, match="has not seen generation 2"):
        hasty.apply(table(2, canary=20))
    plane.is_asleep = False
    wait(lambda: list(hasty.actual()) == [table(2, canary=20)])
    hasty.close()


def test_a_service_that_is_not_there_is_named(
    server: Server, plane: DataPlane, routed: dict[str, RouteOptions]
) -> None:
    router = RouteTraffic(open_door(server.kubeconfig()), server.namespace, options=routed.get, settle_s=2)
    server.core.delete_namespaced_service("chat-rev-2", server.namespace)
    with pytest.raises(Unavailable, match="BackendNotFound: no Service chat-rev-2"):
        router.apply(table(1, canary=20))
    router.close()


def test_weights_set_by_somebody_else_are_seen_and_named_and_not_taken_back_by_force(
    server: Server, router: RouteTraffic
) -> None:
    router.apply(table(1))
    (route,) = routes(server)
    rules = route["spec"]["rules"]
    rules[0]["backendRefs"][1]["weight"] = 50
    client.CustomObjectsApi(server.api).patch_namespaced_custom_object(
        GROUP,
        VERSION,
        server.namespace,
        PLURAL,
        "chat",
        {"spec": {"rules": rules}},
        field_manager="kubectl-edit",
        _content_type=MERGE,
    )
    wait(lambda: list(router.actual()) not in ([table(1)], [None]))
    with pytest.raises(Unavailable, match=r"spec\.rules is set by kubectl-edit"):
        router.apply(table(2, canary=5))


def test_an_older_table_is_stale_even_for_a_controller_that_just_started(
    server: Server, plane: DataPlane, router: RouteTraffic, routed: dict[str, RouteOptions]
) -> None:
    router.apply(table(5, canary=20))
    other = RouteTraffic(open_door(server.kubeconfig()), server.namespace, options=routed.get, settle_s=20)
    for late in (table(4), table(5)):
        with pytest.raises(StaleVersion):
            other.apply(late)
    other.apply(table(5, canary=20))
    assert list(other.actual()) == [table(5, canary=20)]
    other.close()


def test_a_route_that_was_written_to_a_moment_ago_is_looked_at_again_and_written(
    server: Server, router: RouteTraffic
) -> None:
    """As its gateway does whenever it has something to say of it."""
    router.apply(table(1))
    if server.stand_in is not None:
        server.stand_in.faults.late["httproutes"] = 3.0
    noted = {"metadata": {"annotations": {"somebody.example.com/says": "this"}}}
    where = (GROUP, VERSION, server.namespace, PLURAL, "chat")
    client.CustomObjectsApi(server.api).patch_namespaced_custom_object(*where, noted, _content_type=MERGE)
    router.apply(table(2, canary=20))
    (route,) = routes(server)
    assert [each["weight"] for each in route["spec"]["rules"][0]["backendRefs"]] == [80, 20]


def test_the_route_of_a_service_that_wants_none_any_more_goes(
    server: Server, router: RouteTraffic, routed: dict[str, RouteOptions]
) -> None:
    router.apply(table(1))
    del routed["chat"]
    router.apply(table(2))
    assert routes(server) == []


def test_a_cluster_without_the_gateway_api_is_one_message(server: Server) -> None:
    if server.stand_in is None:
        pytest.skip("definitions of a real server are not taken away")
    server.stand_in.faults.uninstall(GROUP)
    router = RouteTraffic(open_door(server.kubeconfig()), server.namespace, options=lambda _: ROUTE)
    with pytest.raises(Unavailable, match="the cluster has no Gateway API"):
        router.apply(table(1))
    router.close()


@pytest.mark.parametrize(
    "rule",
    [
        {"backendRefs": [{"name": "chat-rev-1"}]},
        {"backendRefs": [{"name": "chat-rev-1", "port": 8000, "weight": -1}]},
        {"matches": [{"path": {"type": "PathPrefix", "value": "v1"}}]},
    ],
    ids=["no port", "negative weight", "no path"],
)
def test_a_route_that_says_what_no_gateway_could_do_is_invalid(server: Server, rule: dict[str, Any]) -> None:
    require_group(server, GROUP)
    value = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "HTTPRoute",
        "metadata": {"name": "one"},
        "spec": {"parentRefs": [{"name": "public"}], "rules": [rule]},
    }
    code, said = server.post(f"/apis/{GROUP}/{VERSION}/namespaces/{server.namespace}/{PLURAL}", value)
    assert code == 422, said
