"""Where a real server is stricter than one would like, or writes back other than what it was sent."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from controlplane.adapters.fleet_kubernetes.door import Door, Place, open_door
from controlplane.adapters.fleet_kubernetes.manifests import same_deployment
from controlplane.adapters.fleet_kubernetes.watched import Watched, end
from controlplane.domain.errors import InvalidInput, StaleVersion
from tests.contract.kubernetes_servers import Server, wait
from tests.contract.test_kubernetes_server import APPLY, MERGE, apply, deployment, refused
from tests.fakes.kubernetes.schemas import Object


def door(server: Server) -> Door:
    return open_door(server.kubeconfig())


def deployments(server: Server) -> Place:
    return Place("apis/apps/v1", "deployments", server.namespace)


def container(found: client.V1Deployment) -> Any:
    assert found.spec is not None
    assert found.spec.template.spec is not None
    return found.spec.template.spec.containers[0]


def test_a_server_writes_quantities_in_its_own_way_and_applying_ours_again_changes_nothing(server: Server) -> None:
    value = deployment()
    amounts = {"cpu": "1000m", "memory": "2048Mi"}
    value["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": amounts, "requests": amounts}
    first = apply(server, value)
    assert container(first).resources.limits == {"cpu": "1", "memory": "2Gi"}
    again = apply(server, value)
    assert first.metadata is not None
    assert again.metadata is not None
    assert again.metadata.generation == first.metadata.generation


def test_what_a_server_filled_in_can_be_applied_as_it_is_and_changes_nothing(server: Server) -> None:
    apply(server, deployment())
    at, ours = deployments(server), door(server)

    found: list[tuple[Object, Object]] = []

    def applied() -> bool:
        live = ours.get(at, "one")
        assert live is not None
        live["metadata"].setdefault("labels", {})
        with suppress(StaleVersion):  # a controller said something in between
            found.append((live, ours.apply(at, same_deployment(live, replicas=0, annotations={}))))
        return bool(found)

    wait(applied)
    ((before, after),) = found
    assert before["spec"]["template"]["spec"]["containers"][0]["terminationMessagePath"]
    assert (after["spec"], after["metadata"]["generation"]) == (before["spec"], before["metadata"]["generation"])


def test_a_field_that_nobody_applies_any_more_falls_back_to_its_default(server: Server) -> None:
    apply(server, deployment(minReadySeconds=5, revisionHistoryLimit=3))
    found = apply(server, deployment())
    assert found.spec is not None
    assert (found.spec.min_ready_seconds or 0, found.spec.revision_history_limit) == (0, 10)


def test_two_who_apply_the_same_value_share_it_and_one_may_not_change_it_alone(server: Server) -> None:
    apply(server, deployment(replicas=0))
    apply(server, deployment(replicas=0), manager="other")
    with pytest.raises(ApiException) as error:
        apply(server, deployment(replicas=2))
    code, said = refused(error)
    assert (code, "other" in said, ".spec.replicas" in said) == (409, True, True)
    gone = deployment()
    del gone["spec"]["replicas"]
    apply(server, gone, manager="other")
    assert apply(server, deployment(replicas=2)).spec is not None


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"metadata": {"name": "one", "managedFields": [{"manager": "a"}]}}, 400, "managedFields must be nil"),
        ({"metadata": {"name": "two"}}, 400, "does not match"),
        ({"metadata": {"name": "one", "namespace": "other"}}, 400, "does not match the namespace"),
    ],
)
def test_an_applied_object_may_not_say_everything(server: Server, change: Object, code: int, says: str) -> None:
    with pytest.raises(ApiException) as error:
        apply(server, {**deployment(), **change})
    found, said = refused(error)
    assert (found, says in said) == (code, True), said


def test_a_key_said_twice_in_a_list_is_refused_when_applied(server: Server) -> None:
    value = deployment()
    twice = [{"name": "HOME", "value": "/a"}, {"name": "HOME", "value": "/b"}]
    value["spec"]["template"]["spec"]["containers"][0]["env"] = twice
    with pytest.raises(InvalidInput, match="HOME"):
        door(server).apply(deployments(server), value)


def test_an_object_meant_to_be_there_is_not_made_again_by_its_uid_and_would_be_by_its_version(server: Server) -> None:
    live = apply(server, deployment())
    assert live.metadata is not None
    value = deployment()
    value["metadata"]["resourceVersion"] = live.metadata.resource_version
    server.apps.delete_namespaced_deployment("one", server.namespace)
    ours, at = door(server), deployments(server)
    wait(lambda: ours.get(at, "one") is None)
    named = {**value, "metadata": {**value["metadata"], "uid": live.metadata.uid}}
    with pytest.raises(StaleVersion, match="uid mismatch"):
        ours.apply(at, named)
    assert ours.get(at, "one") is None
    assert ours.apply(at, value)["metadata"]["uid"] != live.metadata.uid


def test_a_lease_is_only_replaced_by_who_says_which_version(server: Server) -> None:
    leases = client.CoordinationV1Api(server.api)
    value: Any = {"metadata": {"name": "one"}, "spec": {"holderIdentity": "a"}}
    leases.create_namespaced_lease(server.namespace, value)
    with pytest.raises(ApiException) as error:
        leases.replace_namespaced_lease("one", server.namespace, value)
    assert refused(error)[0] == 422


def test_a_status_changes_no_spec_and_a_spec_no_status(server: Server) -> None:
    apply(server, deployment())
    both = {"spec": {"paused": True}, "status": {"replicas": 9}}
    found = server.apps.patch_namespaced_deployment_status("one", server.namespace, both, _content_type=MERGE)
    assert found.spec is not None
    assert not found.spec.paused
    both["status"] = {"replicas": 8}
    found = server.apps.patch_namespaced_deployment("one", server.namespace, both, _content_type=MERGE)
    assert found.status is not None
    assert (found.spec is not None and found.spec.paused, found.status.replicas == 8) == (True, False)


def test_a_list_in_pages_is_whole_and_of_one_moment(server: Server) -> None:
    for number in range(5):
        body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name=f"c-{number}", labels={"app": "paged"}))
        server.core.create_namespaced_config_map(server.namespace, body)
    raw: Any = server.core.list_namespaced_config_map
    first = raw(server.namespace, limit=2, label_selector="app=paged")
    server.core.delete_namespaced_config_map("c-4", server.namespace)
    rest = raw(server.namespace, limit=10, label_selector="app=paged", _continue=first.metadata._continue)
    assert [each.metadata.name for each in [*first.items, *rest.items]] == [f"c-{number}" for number in range(5)]
    assert rest.metadata.resource_version == first.metadata.resource_version


def test_a_foreground_deletion_leaves_an_object_until_what_it_owns_is_gone(server: Server) -> None:
    value = deployment(replicas=0)
    apply(server, value)
    ours, at = door(server), deployments(server)
    wait(lambda: bool(server.apps.list_namespaced_replica_set(server.namespace).items))
    server.apps.delete_namespaced_deployment("one", server.namespace, propagation_policy="Foreground")
    wait(lambda: ours.get(at, "one") is None)
    assert server.apps.list_namespaced_replica_set(server.namespace).items == []


def test_an_object_that_leaves_a_selection_is_gone_for_who_watches_it(server: Server) -> None:
    labelled = client.V1ObjectMeta(name="one", labels={"app": "engine"})
    server.core.create_namespaced_config_map(server.namespace, client.V1ConfigMap(metadata=labelled))
    watched = Watched(door(server), Place("api/v1", "configmaps", server.namespace), selector="app=engine")
    assert [each["metadata"]["name"] for each in watched.items()] == ["one"]
    other = {"metadata": {"labels": {"app": "other"}}}
    server.core.patch_namespaced_config_map("one", server.namespace, other, _content_type=MERGE)
    wait(lambda: not watched.items())
    back = {"metadata": {"labels": {"app": "engine"}}}
    server.core.patch_namespaced_config_map("one", server.namespace, back, _content_type=MERGE)
    wait(lambda: len(watched.items()) == 1)
    end(watched)


def test_a_deployment_s_name_may_be_as_long_as_its_pods_labels_allow(server: Server) -> None:
    value = deployment(replicas=1)
    value["metadata"]["name"] = "a" * 50
    server.apps.patch_namespaced_deployment(
        "a" * 50, server.namespace, value, field_manager="fleetune", _content_type=APPLY
    )
    wait(lambda: bool(server.core.list_namespaced_pod(server.namespace).items))
    (pod,) = server.core.list_namespaced_pod(server.namespace).items
    assert pod.metadata is not None
    assert len(str(pod.metadata.name)) <= 63
