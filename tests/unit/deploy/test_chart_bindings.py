"""What the chart's objects say of each other: hooks come when they must, and every name leads to what it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from controlplane.adapters.fleet_kubernetes.names import labels_of
from controlplane.cli.installation.programs import programs
from controlplane.domain.base import RevisionId, ServiceName
from controlplane.domain.owner import ReplicaOwner
from controlplane.settings import Settings
from tests.unit.deploy.charts import EXAMPLES, IDS, NAMESPACE, Object, container, named, of_example, pods, rendered

EKS = of_example(EXAMPLES[IDS.index("eks")])


def notes(found: Object) -> Object:
    """Return the annotations of an object."""
    return dict(found["metadata"].get("annotations", {}))


def hooked(name: str) -> list[tuple[str, Object]]:
    """Return kind and annotations of what a hook consists of, in the order helm makes it."""
    mine = [each for each in EKS if each["metadata"]["name"].endswith(name) and "helm.sh/hook" in notes(each)]
    in_order = sorted(mine, key=lambda each: int(notes(each).get("helm.sh/hook-weight", "0")))
    return [(each["kind"], notes(each)) for each in in_order]


@pytest.mark.parametrize(
    ("name", "when"), [("fleetune-prepare", "pre-install,pre-upgrade"), ("fleetune-uninstall", "post-delete")]
)
def test_a_hook_comes_when_it_must_and_its_job_after_what_it_needs(name: str, when: str) -> None:
    found = hooked(name)
    assert {annotations["helm.sh/hook"] for _, annotations in found} == {when}
    assert [kind for kind, _ in found].index("Job") == len(found) - 1


def test_services_that_are_prepared_are_files_that_are_there() -> None:
    prepare, told = container(EKS, "fleetune-prepare"), named(EKS, "ConfigMap", "fleetune-prepare")["data"]
    files = [word.removeprefix("--file=") for word in prepare["command"] if word.startswith("--file=")]
    (mount,) = [each for each in prepare["volumeMounts"] if each["name"] == "configuration"]
    assert files
    assert {path.removeprefix(f"{mount['mountPath']}/") for path in files} <= told.keys()


def test_engines_stay_when_they_are_to_outlive_the_release() -> None:
    kept = rendered({"uninstall": {"stopEngines": False}})
    assert [each["metadata"]["name"] for each in kept if "uninstall" in each["metadata"]["name"]] == []
    assert ("Job", "fleetune-uninstall") in {(each["kind"], each["metadata"]["name"]) for each in rendered({})}


def test_rights_are_given_to_accounts_of_the_release_that_are_there() -> None:
    accounts = {each["metadata"]["name"] for each in EKS if each["kind"] == "ServiceAccount"}
    roles = {(each["kind"], each["metadata"]["name"]) for each in EKS if "rules" in each}
    bindings = [each for each in EKS if each["kind"].endswith("Binding")]
    assert len(bindings) == 4
    for each in bindings:
        (subject,) = each["subjects"]
        assert (subject["namespace"], subject["name"] in accounts) == (NAMESPACE, True)
        assert (each["roleRef"]["kind"], each["roleRef"]["name"]) in roles
    used = {template["spec"].get("serviceAccountName", "fleetune-none") for _, template in pods(EKS)}
    assert used <= accounts


def test_the_dashboard_asks_the_api_where_its_service_listens() -> None:
    env = {each["name"]: each.get("value") for each in container(EKS, "fleetune-dashboard")["env"]}
    (port,) = named(EKS, "Service", "fleetune-api")["spec"]["ports"]
    assert env["FLEETUNE_API_URL"] == f"http://fleetune-api:{port['port']}"
    ports = {each["name"]: each["containerPort"] for each in container(EKS, "fleetune-api")["ports"]}
    assert ports[port["targetPort"]] == Settings.model_fields["api_port"].default


def test_gateways_are_scaled_and_kept_by_their_own_name() -> None:
    objects = rendered({"gateway": {"replicas": 3, "autoscaling": {"enabled": True, "maxReplicas": 9}}})
    scaled = named(objects, "HorizontalPodAutoscaler", "fleetune-gateway")["spec"]
    deployment = named(objects, "Deployment", "fleetune-gateway")
    target = {"apiVersion": deployment["apiVersion"], "kind": "Deployment", "name": "fleetune-gateway"}
    assert (scaled["scaleTargetRef"], scaled["minReplicas"], scaled["maxReplicas"]) == (target, 3, 9)


@pytest.mark.parametrize("component", ["gateway", "controller"])
def test_a_drain_of_nodes_takes_one_at_a_time_of_the_very_pods(component: str) -> None:
    budget = named(EKS, "PodDisruptionBudget", f"fleetune-{component}")["spec"]
    assert budget["maxUnavailable"] == 1
    labels = dict(pods(EKS))[f"fleetune-{component}"]["metadata"]["labels"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()


def test_every_process_has_the_stores_url_from_its_secret_and_nothing_of_it_in_its_environment() -> None:
    objects = rendered({"store": {"urlSecret": {"name": "postgres", "key": "uri"}}})
    expected = {"name": "FLEETUNE_STORE_URL", "valueFrom": {"secretKeyRef": {"name": "postgres", "key": "uri"}}}
    for name in ("api", "controller", "worker", "prepare", "uninstall"):
        assert expected in container(objects, f"fleetune-{name}")["env"], name


def test_a_worker_has_more_time_to_let_go_than_up_gives_it(tmp_path: Path) -> None:
    worker = next(each for each in programs(Settings(data_dir=tmp_path), dashboard=False) if "worker" in each.name)
    grace_s = dict(pods(EKS))["fleetune-worker"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_s > worker.stop_s


def test_another_installation_begins_its_processes_anew() -> None:
    def seen(values: Object) -> set[str]:
        found = (notes(template) for _, template in pods(rendered(values)))
        return {each["fleetune.dev/configuration"] for each in found if "fleetune.dev/configuration" in each}

    plain = seen({})
    assert (len(plain), plain) == (1, seen({"worker": {"replicas": 3}}))
    assert plain.isdisjoint(seen({"mlflow": {"url": "https://mlflow.example"}}))


def test_the_volume_of_all_pods_is_written_by_all() -> None:
    assert named(rendered({}), "PersistentVolumeClaim", "fleetune")["spec"]["accessModes"] == ["ReadWriteMany"]


def test_engines_metrics_bear_the_service_and_revision_of_their_pods_labels() -> None:
    (endpoint,) = named(EKS, "PodMonitor", "fleetune-engines")["spec"]["podMetricsEndpoints"]
    taken = [each for each in endpoint["relabelings"] if "sourceLabels" in each]
    sources = {each["targetLabel"]: each["sourceLabels"][0] for each in taken}
    labels = labels_of(ReplicaOwner(ServiceName("chat"), RevisionId("rev-1")))
    read = {f"__meta_kubernetes_pod_label_{re.sub(r'[^a-zA-Z0-9_]', '_', label)}": v for label, v in labels.items()}
    assert (read[sources["service"]], read[sources["revision"]]) == ("chat", "rev-1")
    selected = named(EKS, "PodMonitor", "fleetune-engines")["spec"]["selector"]["matchLabels"]
    assert selected.items() <= labels.items()


def test_no_secret_of_the_release_is_in_plain_sight() -> None:
    made = named(rendered({}), "Secret", "fleetune-secrets")["data"]
    others = yaml.safe_dump([each for each in rendered({}) if each["kind"] != "Secret"])
    assert sorted(made) == ["admin-token", "dashboard-key"]
    assert not any(value in others for value in made.values())
