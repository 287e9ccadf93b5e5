"""What a server adds to what it is sent, and what it then lets nobody change: on the stand-in and on a real one."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from tests.contract.kubernetes_servers import Server, wait
from tests.contract.routes import an_endpoint_slice
from tests.contract.test_kubernetes_server import APPLY, MERGE, deployment, refused
from tests.contract.test_kubernetes_watch import events
from tests.fakes.kubernetes.admission import admitted_pod
from tests.fakes.kubernetes.backing_off import BackingOff
from tests.fakes.kubernetes.cluster import StandIn
from tests.fakes.kubernetes.errors import ApiError
from tests.fakes.kubernetes.schemas import Object, resource_of

GPU = "nvidia.com/gpu"


def a_pod(server: Server, name: str = "one", **spec: Any) -> Object:
    """Return a pod that no node takes: nothing of it is said but by the server."""
    selector = {"fleetune.dev/test": f"none-{server.namespace}"}
    containers = [{"name": "it", "image": "registry.example/it"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"nodeSelector": selector, "containers": containers, **spec},
    }


def create(server: Server, pod: Object) -> Any:
    """Return a pod as the server has it, as plain JSON."""
    made = server.core.create_namespaced_pod(server.namespace, client.V1Pod.model_validate(pod))
    return server.api.sanitize_for_serialization(made)  # type: ignore[no-untyped-call]


def post_pod(server: Server, pod: Object) -> tuple[int, str]:
    return server.post(f"/api/v1/namespaces/{server.namespace}/pods", pod)


def test_a_pod_is_given_an_account_its_token_a_priority_and_patience_with_lost_nodes(server: Server) -> None:
    made = create(server, a_pod(server))
    spec, status = made["spec"], made["status"]
    assert (spec["serviceAccountName"], spec["serviceAccount"]) == ("default", "default")
    assert (spec["priority"], spec["preemptionPolicy"]) == (0, "PreemptLowerPriority")
    assert (spec["enableServiceLinks"], status["phase"], status["qosClass"]) == (True, "Pending", "BestEffort")
    bears = {(each["key"], each["effect"], each.get("tolerationSeconds")) for each in spec["tolerations"]}
    lost = [f"node.kubernetes.io/{word}" for word in ("not-ready", "unreachable")]
    assert bears == {(key, "NoExecute", 300) for key in lost}
    (container,) = spec["containers"]
    assert container["imagePullPolicy"] == "Always"
    assert [mount["name"] for mount in container["volumeMounts"]] == [spec["volumes"][0]["name"]]
    assert spec["volumes"][0]["name"].startswith("kube-api-access-")


def test_a_pod_that_wants_no_token_gets_none_and_one_of_a_digest_is_pulled_once(server: Server) -> None:
    image = f"registry.example/it@sha256:{0:064}"
    pod = a_pod(server, automountServiceAccountToken=False, containers=[{"name": "it", "image": image}])
    spec = create(server, pod)["spec"]
    assert "volumes" not in spec
    assert spec["containers"][0]["imagePullPolicy"] == "IfNotPresent"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"serviceAccountName": "nobody"}, "error looking up service account"),
        ({"priorityClassName": "no-such-class"}, "no PriorityClass with name no-such-class was found"),
    ],
)
def test_a_pod_of_an_account_or_a_class_that_is_not_there_is_forbidden(server: Server, spec: Object, says: str) -> None:
    code, said = post_pod(server, a_pod(server, **spec))
    assert (code, says in said) == (403, True), said


def test_what_a_pod_is_can_be_changed_by_nobody(server: Server) -> None:
    create(server, a_pod(server))
    other = {"spec": {"nodeSelector": {"other": "one"}}}
    with pytest.raises(ApiException) as error:
        server.core.patch_namespaced_pod("one", server.namespace, other, _content_type=MERGE)
    code, said = refused(error)
    assert (code, "pod updates may not change fields other than" in said) == (422, True)
    noted = {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "7"}}}
    assert server.core.patch_namespaced_pod("one", server.namespace, noted, _content_type=MERGE).metadata is not None


def test_a_quota_counts_before_it_refuses_and_says_what_is_missing(server: Server) -> None:
    hard = {f"requests.{GPU}": "1", "pods": "9"}
    quota = client.V1ResourceQuota(metadata=client.V1ObjectMeta(name="q"), spec=client.V1ResourceQuotaSpec(hard=hard))
    server.core.create_namespaced_resource_quota(server.namespace, quota)

    def counted() -> Any:
        status = server.core.read_namespaced_resource_quota("q", server.namespace).status
        return {} if status is None or status.used is None else status.used

    path = f"/api/v1/namespaces/{server.namespace}/pods"
    with_gpu = {"name": "it", "image": "it", "resources": {"limits": {GPU: "1"}}}
    pod = a_pod(server, containers=[with_gpu])
    wait(lambda: counted() == {f"requests.{GPU}": "0", "pods": "0"})
    wait(lambda: server.post(path, pod, dryRun="All")[0] == 201)  # admission hears of the count a moment later
    create(server, pod)
    code, said = post_pod(server, a_pod(server, "two", containers=[with_gpu]))
    named = f"exceeded quota: q, requested: requests.{GPU}=1, used: requests.{GPU}=1, limited: requests.{GPU}=1"
    assert (code, named in said) == (403, True), said
    server.core.delete_namespaced_pod("one", server.namespace)
    wait(lambda: counted() == {f"requests.{GPU}": "0", "pods": "0"})


def test_a_quota_that_nobody_counted_yet_admits_nothing(stand_in: StandIn) -> None:
    wait(lambda: bool(stand_in.objects.list(resource_of("v1", "ServiceAccount"), "default")))
    quota = {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "9"}}}
    pod = {"metadata": {"name": "one"}, "spec": {"containers": [{"name": "it", "image": "it"}]}}
    with stand_in.objects.changed:  # its controller waits
        stand_in.objects.create(resource_of("v1", "ResourceQuota"), "default", quota)
        with pytest.raises(ApiError, match="status unknown for quota: q, resources: pods"):
            admitted_pod(stand_in.objects, "default", pod)
        stand_in.objects.delete(resource_of("v1", "ResourceQuota"), "default", "q")


def test_a_replica_set_that_is_refused_is_tried_less_and_less_often_and_at_once_when_it_changes() -> None:
    now_s = [0.0]
    waits, pauses = BackingOff(steady=lambda: now_s[0]), []
    for _ in range(4):
        waits.note("uid", 1, "quota")
        began_s = now_s[0]
        while waits.holds("uid", 1):
            now_s[0] += 0.001
        pauses.append(round(now_s[0] - began_s, 3))
    assert pauses == sorted(pauses)
    assert pauses[-1] >= 4 * pauses[0]
    waits.note("uid", 1, "quota")
    assert (waits.holds("uid", 1), waits.holds("uid", 2), waits.is_due) == ("quota", "", False)
    waits.note("uid", 2, "")
    now_s[0] += 1000
    assert not waits.is_due


def test_a_quota_of_cpu_wants_every_pod_to_say_its_cpu(server: Server) -> None:
    spec = client.V1ResourceQuotaSpec(hard={"limits.cpu": "9"})
    quota = client.V1ResourceQuota(metadata=client.V1ObjectMeta(name="q"), spec=spec)
    server.core.create_namespaced_resource_quota(server.namespace, quota)
    said: list[str] = []

    def is_refused() -> bool:  # its admission hears of the quota a moment later
        code, text = server.post(f"/api/v1/namespaces/{server.namespace}/pods", a_pod(server), dryRun="All")
        said.append(text)
        return code == 403

    wait(is_refused)
    assert "must specify limits.cpu for: it" in said[-1]


def test_objects_without_a_description_count_no_generations(server: Server) -> None:
    value = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="one"))
    made = server.core.create_namespaced_config_map(server.namespace, value)
    assert made.metadata is not None
    assert made.metadata.generation is None


def test_a_service_is_given_an_address_that_nobody_changes(server: Server) -> None:
    spec: Any = {"ports": [{"port": 80}], "selector": {"app": "none"}}
    made = server.core.create_namespaced_service(
        server.namespace, client.V1Service.model_validate({"metadata": {"name": "one"}, "spec": spec})
    )
    assert made.spec is not None
    assert made.spec.cluster_ips == [made.spec.cluster_ip]
    assert made.spec.ip_family_policy == "SingleStack"
    other = {"spec": {"clusterIP": "None", "clusterIPs": ["None"]}}
    with pytest.raises(ApiException) as error:
        server.core.patch_namespaced_service("one", server.namespace, other, _content_type=MERGE)
    assert refused(error)[0] == 422


def test_a_service_has_a_slice_before_it_has_an_endpoint(server: Server) -> None:
    spec: Any = {"ports": [{"port": 80}], "selector": {"app": "none"}}
    value = client.V1Service.model_validate({"metadata": {"name": "one"}, "spec": spec})
    server.core.create_namespaced_service(server.namespace, value)

    def slices() -> Any:
        of = "kubernetes.io/service-name=one"
        return server.discovery.list_namespaced_endpoint_slice(server.namespace, label_selector=of).items

    wait(lambda: len(slices()) == 1)
    assert slices()[0].endpoints is None
    assert slices()[0].metadata.name.startswith("one-")


def test_loopback_is_no_endpoint(server: Server) -> None:
    value = an_endpoint_slice("one")
    assert value.endpoints is not None
    value.endpoints[0].addresses = ["127.0.0.9"]
    with pytest.raises(ApiException) as error:
        server.discovery.create_namespaced_endpoint_slice(server.namespace, value)
    code, said = refused(error)
    assert (code, "loopback" in said) == (422, True)


def test_a_job_chooses_its_own_selector_and_keeps_its_template(server: Server) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "it", "image": "it:1"}]}}
    value = {"metadata": {"name": "one"}, "spec": {"template": template, "parallelism": 2, "suspend": True}}
    jobs = client.BatchV1Api(server.api)
    made = jobs.create_namespaced_job(server.namespace, client.V1Job.model_validate(value))
    assert made.spec is not None
    assert made.metadata is not None
    assert made.spec.selector is not None
    assert made.spec.selector.match_labels == {"batch.kubernetes.io/controller-uid": made.metadata.uid}
    assert (made.spec.completions, made.spec.backoff_limit, made.spec.completion_mode) == (None, 6, "NonIndexed")
    changed = {"spec": {"template": {"spec": {"containers": [{"name": "it", "image": "it:2"}]}}}}
    with pytest.raises(ApiException) as error:
        jobs.patch_namespaced_job("one", server.namespace, changed, _content_type=MERGE)
    code, said = refused(error)
    assert (code, "immutable" in said) == (422, True)


def test_a_write_that_names_another_object_of_that_name_is_refused(server: Server) -> None:
    stranger = "00000000-0000-0000-0000-000000000000"
    made = server.core.create_namespaced_config_map(
        server.namespace, client.V1ConfigMap(metadata=client.V1ObjectMeta(name="one"))
    )
    assert made.metadata is not None
    theirs = made.model_copy(update={"metadata": made.metadata.model_copy(update={"uid": stranger})})
    with pytest.raises(ApiException) as put:
        server.core.replace_namespaced_config_map("one", server.namespace, theirs)
    assert (refused(put)[0], "UID in precondition" in refused(put)[1]) == (409, True)
    applied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", "uid": stranger}}
    with pytest.raises(ApiException) as patched:
        server.core.patch_namespaced_config_map(
            "one", server.namespace, applied, field_manager="fleetune", _content_type=APPLY
        )
    assert (refused(patched)[0], "immutable" in refused(patched)[1]) == (422, True)


def test_an_object_that_leaves_a_selection_is_shown_as_it_was_in_it(server: Server) -> None:
    made = server.core.create_namespaced_config_map(
        server.namespace, client.V1ConfigMap(metadata=client.V1ObjectMeta(name="one", labels={"app": "engine"}))
    )
    assert made.metadata is not None
    version = str(made.metadata.resource_version)
    other = {"metadata": {"labels": {"app": "other"}}}
    changed = server.core.patch_namespaced_config_map("one", server.namespace, other, _content_type=MERGE)
    (event,) = events(server, version, label_selector="app=engine")
    shown = event["raw_object"]["metadata"]
    assert changed.metadata is not None
    assert (event["type"], shown["labels"]) == ("DELETED", {"app": "engine"})
    assert shown["resourceVersion"] == changed.metadata.resource_version


def test_numbers_of_a_deployment_that_are_nothing_are_not_said(server: Server) -> None:
    server.apps.create_namespaced_deployment(
        server.namespace, client.V1Deployment.model_validate(deployment(replicas=0))
    )

    def status() -> Any:
        return server.apps.read_namespaced_deployment("one", server.namespace).status

    def conditions() -> set[str]:
        return set() if status() is None else {each.type for each in status().conditions or []}

    wait(lambda: conditions() >= {"Available", "Progressing"})
    assert (status().replicas, status().ready_replicas, status().observed_generation) == (None, None, 1)


@pytest.mark.parametrize(
    ("of_pod", "of_container"),
    [
        ({}, {"name": "Engine_1"}),
        ({}, {"ports": [{"name": "a-name-of-16-signs", "containerPort": 1}]}),
        ({}, {"resources": {"requests": {GPU: "1"}}}),
        ({}, {"volumeMounts": [{"name": "nothing", "mountPath": "/a"}]}),
        ({}, {"livenessProbe": {"tcpSocket": {"port": 1}, "successThreshold": 2}}),
        ({"nodeSelector": {"of": "two words"}}, {}),
        ({"restartPolicy": "Never"}, {}),
        ({"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]}, {}),
        ({"tolerations": [{"key": "a", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 1}]}, {}),
    ],
    ids=str,
)
def test_a_template_that_no_pod_could_be_of_is_invalid(server: Server, of_pod: Object, of_container: Object) -> None:
    value = deployment()
    pod = value["spec"]["template"]["spec"]
    value["spec"]["template"]["spec"] = {**pod, **of_pod, "containers": [{**pod["containers"][0], **of_container}]}
    code, said = server.post(f"/apis/apps/v1/namespaces/{server.namespace}/deployments", value)
    assert code == 422, said
