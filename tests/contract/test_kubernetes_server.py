"""What a Kubernetes API server does: held by the stand-in and, where there is one, by a real server."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from tests.contract.kubernetes_servers import Server, wait
from tests.fakes.kubernetes.schemas import Object

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"


def deployment(**spec: Any) -> Object:
    labels = {"app": "engine"}
    container = {"name": "engine", "image": "engine:1"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "one"},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template, **spec},
    }


def apply(server: Server, value: Object, *, manager: str = "fleetune", **options: Any) -> client.V1Deployment:
    return server.apps.patch_namespaced_deployment(
        "one", server.namespace, value, field_manager=manager, _content_type=APPLY, **options
    )


def replicas(server: Server) -> int:
    found = server.apps.read_namespaced_deployment("one", server.namespace)
    assert found.spec is not None
    return int(found.spec.replicas or 0)


def refused(error: pytest.ExceptionInfo[ApiException]) -> tuple[int | None, str]:
    return error.value.status, str(error.value.body)


def test_a_write_with_a_stale_version_is_a_conflict(server: Server) -> None:
    first = apply(server, deployment())
    server.apps.patch_namespaced_deployment(
        "one", server.namespace, {"metadata": {"labels": {"a": "b"}}}, _content_type=MERGE
    )
    with pytest.raises(ApiException) as error:
        server.apps.replace_namespaced_deployment("one", server.namespace, first)
    code, said = refused(error)
    assert (code, "has been modified" in said) == (409, True)


def test_an_applied_object_with_a_stale_version_is_a_conflict_without_a_manager(server: Server) -> None:
    first = apply(server, deployment())
    assert first.metadata is not None
    server.apps.patch_namespaced_deployment(
        "one", server.namespace, {"metadata": {"labels": {"a": "b"}}}, _content_type=MERGE
    )
    late = deployment(replicas=1)
    late["metadata"]["resourceVersion"] = first.metadata.resource_version
    with pytest.raises(ApiException) as error:
        apply(server, late)
    code, said = refused(error)
    assert (code, "has been modified" in said, "FieldManagerConflict" in said) == (409, True, False)


def test_applying_another_manager_s_field_names_it_and_the_manager(server: Server) -> None:
    apply(server, deployment())
    server.apps.patch_namespaced_deployment_scale(
        "one", server.namespace, {"spec": {"replicas": 3}}, field_manager="autoscaler", _content_type=MERGE
    )
    with pytest.raises(ApiException) as error:
        apply(server, deployment(replicas=1))
    code, said = refused(error)
    assert (code, ".spec.replicas" in said, "autoscaler" in said) == (409, True, True)
    assert replicas(server) == 3
    apply(server, deployment(replicas=1), force=True)
    assert replicas(server) == 1
    apply(server, deployment(replicas=2))  # ours again


def test_what_is_no_longer_applied_is_removed_and_what_others_own_stays(server: Server) -> None:
    with_both = deployment()
    with_both["metadata"]["annotations"] = {"mine": "1", "shared": "1"}
    apply(server, with_both)
    shared = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"annotations": {"shared": "1"}}}
    apply(server, shared, manager="other")
    found = apply(server, deployment())
    assert found.metadata is not None
    annotations = found.metadata.annotations or {}
    assert ("mine" in annotations, annotations.get("shared")) == (False, "1")


def test_items_of_a_list_with_keys_are_applied_one_by_one(server: Server) -> None:
    apply(server, deployment())
    sidecar = {"name": "sidecar", "image": "sidecar:1"}
    add = deployment()["spec"]["template"]["spec"] | {"containers": [sidecar]}
    theirs = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": add}}}
    apply(server, theirs, manager="injector")
    found = apply(server, deployment(replicas=0))
    assert found.spec is not None
    assert found.spec.template.spec is not None
    assert {each.name for each in found.spec.template.spec.containers} == {"engine", "sidecar"}


def test_a_dry_run_stores_nothing(server: Server) -> None:
    apply(server, deployment(), dry_run="All")
    with pytest.raises(ApiException) as error:
        server.apps.read_namespaced_deployment("one", server.namespace)
    assert error.value.status == 404


def test_a_negative_number_of_replicas_is_invalid(server: Server) -> None:
    with pytest.raises(ApiException) as error:
        server.apps.create_namespaced_deployment(server.namespace, deployment(replicas=-1))  # type: ignore[arg-type]
    assert refused(error)[0] == 422


@pytest.mark.parametrize("broken", [{"replicass": 1}, {"replicas": "two"}], ids=["unknown field", "wrong type"])
def test_unknown_fields_and_wrong_types_are_refused(server: Server, broken: Object) -> None:
    path = f"/apis/apps/v1/namespaces/{server.namespace}/deployments"
    code, said = server.post(path, deployment(**broken), fieldValidation="Strict")
    assert code == 400
    assert next(iter(broken)) in said


def test_an_applied_unknown_field_is_refused_whatever_is_asked(server: Server) -> None:
    with pytest.raises(ApiException, match="replicass"):
        apply(server, deployment(replicass=1))
    with pytest.raises(ApiException) as error:
        server.apps.read_namespaced_deployment("one", server.namespace)
    assert error.value.status == 404


def test_a_selector_cannot_change_and_must_fit_the_template(server: Server) -> None:
    apply(server, deployment())
    with pytest.raises(ApiException) as error:
        apply(server, deployment(selector={"matchLabels": {"app": "other"}}), force=True)
    assert refused(error)[0] == 422


def test_the_generation_counts_changes_of_the_spec_but_not_of_labels(server: Server) -> None:
    first = apply(server, deployment())
    labelled = deployment()
    labelled["metadata"]["labels"] = {"a": "b"}
    second = apply(server, labelled)
    third = apply(server, {**labelled, "spec": deployment(paused=True)["spec"]})
    generations = [each.metadata.generation for each in (first, second, third) if each.metadata is not None]
    assert generations == [1, 1, 2]


def test_applying_the_same_again_changes_no_version(server: Server) -> None:
    apply(server, deployment())

    def observed() -> bool:  # the controllers have said what they have to say
        found = server.apps.read_namespaced_deployment("one", server.namespace)
        return found.status is not None and found.status.observed_generation == 1

    wait(observed)

    def twice() -> set[str | None]:
        found = apply(server, deployment()), apply(server, deployment())
        return {each.metadata.resource_version for each in found if each.metadata is not None}

    wait(lambda: len(twice()) == 1)  # a controller may say something in between


def test_a_lease_s_time_needs_its_fraction(server: Server) -> None:
    leases = client.CoordinationV1Api(server.api)
    for renewed, code in (("2026-01-01T00:00:00Z", 400), ("2026-01-01T00:00:00.000001Z", None)):
        value = {"metadata": {"name": "one"}, "spec": {"renewTime": renewed}}
        try:
            leases.create_namespaced_lease(server.namespace, value)  # type: ignore[arg-type]
            found = None
        except ApiException as error:
            found = error.status
        assert found == code, renewed


def test_a_finalizer_holds_an_object_until_it_is_taken_away(server: Server) -> None:
    value = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="one", finalizers=["fleetune.dev/hold"]))
    server.core.create_namespaced_config_map(server.namespace, value)
    server.core.delete_namespaced_config_map("one", server.namespace)
    held = server.core.read_namespaced_config_map("one", server.namespace)
    assert held.metadata is not None
    assert held.metadata.deletion_timestamp is not None
    server.core.patch_namespaced_config_map(
        "one", server.namespace, {"metadata": {"finalizers": None}}, _content_type=MERGE
    )
    with pytest.raises(ApiException) as error:
        server.core.read_namespaced_config_map("one", server.namespace)
    assert error.value.status == 404


def test_what_an_object_owns_goes_with_it(server: Server) -> None:
    owner = server.core.create_namespaced_config_map(
        server.namespace, client.V1ConfigMap(metadata=client.V1ObjectMeta(name="owner"))
    )
    assert owner.metadata is not None
    reference = client.V1OwnerReference(api_version="v1", kind="ConfigMap", name="owner", uid=str(owner.metadata.uid))
    owned = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="owned", owner_references=[reference]))
    server.core.create_namespaced_config_map(server.namespace, owned)
    server.core.delete_namespaced_config_map("owner", server.namespace)

    def names() -> set[str | None]:
        found = server.core.list_namespaced_config_map(server.namespace).items
        return {each.metadata.name for each in found if each.metadata is not None}

    wait(lambda: "owned" not in names())
