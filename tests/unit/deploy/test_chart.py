"""The Helm chart: every object of every example is valid to the letter, and bad values are refused."""

from __future__ import annotations

from pathlib import Path

import helm_python
import pytest
import yaml
from helm_python import HelmError

from controlplane.reading.service_file import load_service
from dashboards.observability.rules import rule_file
from tests.fakes.kubernetes.pod_security import violations
from tests.fakes.kubernetes.schemas import broken_rules, flaws, resource_of
from tests.unit.deploy.charts import (
    CHART,
    EXAMPLES,
    IDS,
    ROOT,
    Object,
    named,
    of_example,
    pods,
    rendered,
    values_of,
)

RIGHTS = ROOT / "deploy" / "kubernetes" / "rights.yaml"


def test_there_is_an_example_for_each_kind_of_cluster() -> None:
    assert IDS == ["aks", "eks", "gke", "kubeadm"]


@pytest.mark.parametrize("example", EXAMPLES, ids=IDS)
def test_helm_finds_nothing_wrong_with_the_chart(example: Path) -> None:
    found = helm_python.lint(CHART, values_of(example), strict=True)
    assert found["errors"] == []
    assert [each["error"] for each in found["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("example", EXAMPLES, ids=IDS)
def test_every_object_is_valid_to_the_letter(example: Path) -> None:
    for each in of_example(example):
        resource = resource_of(each["apiVersion"], each["kind"])
        wrong = [*flaws(each, resource), *broken_rules(each, resource)]
        assert wrong == [], f"{each['kind']} {each['metadata']['name']}"


@pytest.mark.parametrize("example", EXAMPLES, ids=IDS)
def test_every_pod_runs_where_restricted_ones_alone_are_admitted(example: Path) -> None:
    found = {name: list(violations(template["spec"])) for name, template in pods(of_example(example))}
    assert not any(found.values()), found


@pytest.mark.parametrize("example", EXAMPLES, ids=IDS)
def test_the_services_of_an_example_are_services(example: Path, tmp_path: Path) -> None:
    told = named(of_example(example), "ConfigMap", "fleetune-prepare")["data"]
    path = tmp_path / "chat.yaml"
    path.write_text(told["chat.yaml"])
    cluster = load_service(path).kubernetes
    assert cluster is not None
    given = values_of(example)
    assert (cluster.namespace, cluster.trial_priority_class) == ("inference", "fleetune-trials")
    assert dict(cluster.node_selector) == given["pools"][given["services"]["chat"]["pool"]]["nodeSelector"]


@pytest.mark.parametrize("example", EXAMPLES, ids=IDS)
def test_no_pod_has_a_right_it_does_not_need(example: Path) -> None:
    for name, pod in pods(of_example(example)):
        guard = pod["spec"]["containers"][0]["securityContext"]
        assert (guard["readOnlyRootFilesystem"], guard["allowPrivilegeEscalation"]) == (True, False), name
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True, name
        assert pod["spec"]["enableServiceLinks"] is False, name
        asks_the_cluster = name.rsplit("-", 1)[1] in ("api", "controller", "worker", "uninstall")
        assert asks_the_cluster == (pod["spec"].get("automountServiceAccountToken", True)), name


def test_the_rights_are_those_that_every_call_was_held_against() -> None:
    plain, routed = of_example(EXAMPLES[0]), rendered(values_of(EXAMPLES[0]) | {"routes": {"enabled": True}})
    roles = [each for each in yaml.safe_load_all(RIGHTS.read_text()) if "rules" in each]
    tested = {each["metadata"]["name"]: each["rules"] for each in roles}
    for name in ("fleetune", "fleetune-uninstall"):
        assert named(plain, "Role", name)["rules"] == tested["fleetune"]
        assert named(routed, "Role", name)["rules"] == tested["fleetune"] + tested["fleetune-routes"]
        assert named(plain, "ClusterRole", f"inference-{name}")["rules"] == tested["fleetune-nodes"]


def test_the_alerts_are_those_of_the_command_and_labels_those_the_alerts_ask_for() -> None:
    objects = of_example(EXAMPLES[IDS.index("eks")])
    groups = named(objects, "PrometheusRule", "fleetune")["spec"]["groups"]
    assert groups == [group for group in rule_file([])["groups"] if group["rules"]]
    jobs = {
        rule["replacement"]
        for each in objects
        if each["kind"] == "PodMonitor"
        for rule in each["spec"]["podMetricsEndpoints"][0]["relabelings"]
        if rule["targetLabel"] == "job"
    }
    assert all(f'job="{job}"' in yaml.safe_dump(groups, width=1000) for job in jobs)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gatway": {}}, "gatway"),
        ({"gateway": {"replicas": -1}}, "replicas"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"services": {"chat": {"pool": "a100", "spec": {"version": 1, "name": "chat"}}}}, "there is no pool a100"),
        ({"services": {"chat": {"spec": {"version": 1, "name": "talk"}}}}, "its spec is named talk"),
        ({"entry": {"kind": "ingress"}}, "entry.host"),
        ({"entry": {"kind": "httproute", "host": "a.example"}}, "entry.gateway.name"),
        ({"store": {"urlSecret": {"name": ""}}}, "urlSecret"),
        ({"gateway": {"adminTls": {"secret": "admin"}}}, "gateway.adminTls.serverName"),
        (
            {"gateway": {"tls": {"secret": "a"}}, "monitoring": {"enabled": True, "keySecret": {"name": "prometheus"}}},
            "gateway.tls.serverName",
        ),
        ({"monitoring": {"enabled": True}}, "monitoring.keySecret.name"),
        ({"gateway": {"tls": {"serverName": "https://a"}}}, "serverName"),
        ({"mlflow": {"url": "http://ann:secret@mlflow:5000"}}, "url"),
    ],
)
def test_bad_values_are_refused_with_a_word_on_what_is_wrong(change: Object, says: str) -> None:
    with pytest.raises(HelmError, match=says):
        rendered(change)
