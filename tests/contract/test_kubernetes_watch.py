"""Watches, pods and faults that the fleet adapter leans on, on the stand-in and, where it can be, on a real server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from kubernetes import client, watch
from kubernetes.client.exceptions import ApiException

from tests.contract.kubernetes_servers import Server, wait
from tests.fakes.kubernetes.cluster import StandIn
from tests.fakes.kubernetes.schemas import Object


def events(server: Server, version: str, *, enough: int = 1, **options: Any) -> list[Object]:
    found: list[Object] = []
    stream = watch.Watch().stream(  # type: ignore[no-untyped-call]
        server.core.list_namespaced_config_map,
        server.namespace,
        resource_version=version,
        timeout_seconds=20,
        **options,
    )
    for event in stream:
        found.append(event)
        if len(found) == enough:
            break
    return found


def config_map(server: Server, name: str, labels: Mapping[str, str] | None = None) -> str:
    metadata = client.V1ObjectMeta(name=name, labels=dict(labels or {}))
    made = server.core.create_namespaced_config_map(server.namespace, client.V1ConfigMap(metadata=metadata))
    assert made.metadata is not None
    return str(made.metadata.resource_version)


def test_a_watch_tells_what_changed_after_its_version_in_order(server: Server) -> None:
    version = config_map(server, "one")
    config_map(server, "two", {"app": "engine"})
    server.core.delete_namespaced_config_map("two", server.namespace)
    found = events(server, version, enough=2, label_selector="app=engine")
    told = [(event["type"], event["raw_object"]["metadata"]["name"]) for event in found]
    assert told == [("ADDED", "two"), ("DELETED", "two")]


def test_a_watch_of_a_selection_hears_of_nothing_else(server: Server) -> None:
    version = config_map(server, "zero")
    config_map(server, "one", {"app": "other"})
    config_map(server, "two", {"app": "engine"})
    found = events(server, version, label_selector="app=engine")
    assert [event["raw_object"]["metadata"]["name"] for event in found] == ["two"]


@pytest.fixture
def fresh(tmp_path: Any) -> Any:
    running = StandIn(tmp_path)
    yield Server(tmp_path, stand_in=running)
    running.stop()


def test_a_quiet_watch_hears_bookmarks(fresh: Server) -> None:
    version = config_map(fresh, "one")
    (found,) = events(fresh, version, allow_watch_bookmarks=True)
    assert found["type"] == "BOOKMARK"
    assert int(found["raw_object"]["metadata"]["resourceVersion"]) >= int(version)


def test_a_watch_from_before_what_is_remembered_is_told_410(fresh: Server) -> None:
    version = config_map(fresh, "one")
    assert fresh.stand_in is not None
    fresh.stand_in.objects.compact()
    with pytest.raises(ApiException) as error:
        events(fresh, version)
    assert error.value.status == 410


def test_a_dropped_watch_ends_without_a_word(fresh: Server) -> None:
    version = config_map(fresh, "one")
    assert fresh.stand_in is not None
    url = f"/api/v1/namespaces/{fresh.namespace}/configmaps?watch=true&resourceVersion={version}"
    stream = fresh.stand_in.server.watch(url, {})
    fresh.stand_in.faults.drop_watches()
    assert list(stream) == []


@pytest.mark.parametrize("code", [429, 500])
def test_a_server_says_once_what_it_is_asked_to_say(fresh: Server, code: int) -> None:
    assert fresh.stand_in is not None
    fresh.stand_in.faults.answer_next(code)
    answered, _ = fresh.post(f"/api/v1/namespaces/{fresh.namespace}/configmaps", {"metadata": {"name": "one"}})
    assert answered == code
    assert config_map(fresh, "one")


def test_a_right_that_is_missing_is_named(fresh: Server) -> None:
    assert fresh.stand_in is not None
    fresh.stand_in.faults.forbid("create", "configmaps")
    with pytest.raises(ApiException, match=r'cannot create resource \\"configmaps\\" in API group \\"\\"'):
        config_map(fresh, "one")


def test_kinds_of_an_add_on_that_is_not_installed_are_not_found(fresh: Server) -> None:
    assert fresh.stand_in is not None
    custom: Any = client.CustomObjectsApi(fresh.api)
    words = ("gateway.networking.k8s.io", "v1", fresh.namespace, "httproutes")
    assert custom.list_namespaced_custom_object(*words)["items"] == []
    fresh.stand_in.faults.uninstall("gateway.networking.k8s.io")
    with pytest.raises(ApiException) as error:
        custom.list_namespaced_custom_object(*words)
    assert error.value.status == 404


@pytest.mark.parametrize("weight", [-1, "one"])
def test_a_route_s_weight_is_checked_by_its_definition(fresh: Server, weight: object) -> None:
    backends: list[Object] = [{"name": "a", "port": 8000, "weight": weight}]
    value = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "one"},
        "spec": {"rules": [{"backendRefs": backends}]},
    }
    path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{fresh.namespace}/httproutes"
    assert fresh.post(path, value)[0] == 422
    backends[0]["weight"] = 1
    assert fresh.post(path, value)[0] == 201
    patch = [{"op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": 5}]
    changed: Any = client.CustomObjectsApi(fresh.api).patch_namespaced_custom_object(
        "gateway.networking.k8s.io",
        "v1",
        fresh.namespace,
        "httproutes",
        "one",
        patch,
        _content_type="application/json-patch+json",
    )
    assert changed["metadata"]["generation"] == 2


def test_a_definition_fills_in_what_a_custom_object_does_not_say(fresh: Server) -> None:
    value = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "one"},
        "spec": {"parentRefs": [{"name": "public"}], "rules": [{"backendRefs": [{"name": "a", "port": 8000}]}]},
    }
    code, said = fresh.post(f"/apis/gateway.networking.k8s.io/v1/namespaces/{fresh.namespace}/httproutes", value)
    assert code == 201, said
    made: Any = client.CustomObjectsApi(fresh.api).get_namespaced_custom_object(
        "gateway.networking.k8s.io", "v1", fresh.namespace, "httproutes", "one"
    )
    parent = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public"}
    everything = [{"path": {"type": "PathPrefix", "value": "/"}}]
    back_end = {"group": "", "kind": "Service", "name": "a", "port": 8000, "weight": 1}
    assert made["spec"] == {"parentRefs": [parent], "rules": [{"matches": everything, "backendRefs": [back_end]}]}


def gpu_pod(gpus: int) -> Object:
    container = {"name": "engine", "image": "engine:1", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    tolerations = [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    return {"metadata": {"name": "one"}, "spec": {"containers": [container], "tolerations": tolerations}}


def test_a_pod_that_fits_no_node_says_which_resource_is_short(server: Server) -> None:
    server.add_node(gpus=2)
    selector = {"nodeSelector": {"fleetune.dev/test": server.namespace}}
    value = gpu_pod(3)
    code, said = server.post(f"/api/v1/namespaces/{server.namespace}/pods", {**value, "spec": value["spec"] | selector})
    assert code == 201, said

    def conditions() -> list[client.V1PodCondition]:
        found = server.core.read_namespaced_pod("one", server.namespace)
        return [] if found.status is None else found.status.conditions or []

    # Until the new node is seen to be ready, its taint is what a scheduler names.
    wait(lambda: any("Insufficient nvidia.com/gpu" in str(each.message) for each in conditions()))
    (scheduled,) = [each for each in conditions() if each.type == "PodScheduled"]
    assert (scheduled.status, scheduled.reason) == ("False", "Unschedulable")
