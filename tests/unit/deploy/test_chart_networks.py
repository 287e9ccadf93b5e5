"""Who reaches whom in an installation by the chart."""

from __future__ import annotations

import pytest

from controlplane.adapters.fleet_kubernetes.load_job import WorkerPod, labels_of
from controlplane.settings import POD_VARIABLES, Settings
from tests.unit.deploy.charts import (
    EXAMPLES,
    container,
    named,
    of_example,
    pods,
    rendered,
    values_of,
)


def test_the_network_lets_clients_reach_grpc_only_where_it_is_spoken() -> None:
    for spoken in (False, True):
        policy = named(rendered({"gateway": {"grpc": spoken}}), "NetworkPolicy", "fleetune-gateway")["spec"]
        reached = {each["port"] for each in policy["ingress"][0]["ports"]}
        assert reached == ({"http", "grpc"} if spoken else {"http"})


def test_engines_are_reached_by_gateways_controllers_workers_their_generators_and_prometheus_only() -> None:
    policy = named(of_example(EXAMPLES[0]), "NetworkPolicy", "fleetune-engines")["spec"]
    assert policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "engine"
    ours, generators, prometheus = policy["ingress"][0]["from"]
    assert generators["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "load-generator"
    assert ours["podSelector"]["matchExpressions"][0]["values"] == ["gateway", "controller", "worker"]
    assert prometheus == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}


def test_load_pods_are_the_installations_and_reach_their_worker_and_nobody_them() -> None:
    loaded = {"enabled": True, "nodeSelector": {"pool": "cpu"}, "most": 3}
    objects = rendered(values_of(EXAMPLES[0]) | {"trials": {"loadPods": loaded}})
    settings = Settings.model_validate_json(named(objects, "ConfigMap", "fleetune")["data"]["installation.json"])
    assert settings.cluster is not None
    pods = settings.cluster.load_pods
    assert pods is not None
    worker = container(objects, "fleetune-worker")
    assert (pods.image, pods.priority_class, pods.most) == (worker["image"], "fleetune-trials", 3)
    assert {each["name"] for each in worker["env"]} >= set(POD_VARIABLES)
    (only,) = named(objects, "NetworkPolicy", "fleetune-worker")["spec"]["ingress"][0]["from"]
    closed = named(objects, "NetworkPolicy", "fleetune-load-generators")["spec"]
    assert only["podSelector"] == closed["podSelector"]
    assert "ingress" not in closed
    owner = WorkerPod("worker-0", "uid", "10.0.0.1", "inference")
    assert only["podSelector"]["matchLabels"].items() <= labels_of(owner).items()


def test_workers_load_trials_themselves_unless_told_otherwise() -> None:
    objects = of_example(EXAMPLES[0])
    settings = Settings.model_validate_json(named(objects, "ConfigMap", "fleetune")["data"]["installation.json"])
    assert settings.cluster is not None
    assert settings.cluster.load_pods is None
    assert "ingress" not in named(objects, "NetworkPolicy", "fleetune-worker")["spec"]


def test_the_admin_port_is_reached_by_the_controller_only() -> None:
    rules = named(of_example(EXAMPLES[0]), "NetworkPolicy", "fleetune-gateway")["spec"]["ingress"]
    (admin,) = [rule for rule in rules if rule["ports"] == [{"protocol": "TCP", "port": "admin"}]]
    (only,) = admin["from"]
    assert only["podSelector"]["matchExpressions"][0]["values"] == ["controller"]


def test_the_api_is_reached_by_the_dashboard_prometheus_and_who_is_named() -> None:
    clients = [{"namespaceSelector": {"matchLabels": {"team": "ops"}}}]
    objects = rendered({"networkPolicies": {"apiClients": clients}})
    (rule,) = named(objects, "NetworkPolicy", "fleetune-api")["spec"]["ingress"]
    dashboard, prometheus, *others = rule["from"]
    assert dashboard["podSelector"]["matchExpressions"][0]["values"] == ["dashboard"]
    assert prometheus.keys() == {"namespaceSelector"}
    assert others == clients


@pytest.mark.parametrize("component", ["controller", "worker"])
def test_nobody_reaches_controllers_and_workers(component: str) -> None:
    spec = named(of_example(EXAMPLES[0]), "NetworkPolicy", f"fleetune-{component}")["spec"]
    assert spec["policyTypes"] == ["Ingress"]
    assert "ingress" not in spec
    labels = dict(pods(of_example(EXAMPLES[0])))[f"fleetune-{component}"]["metadata"]["labels"]
    assert spec["podSelector"]["matchLabels"].items() <= labels.items()


def test_engines_of_one_node_do_not_reach_each_other() -> None:
    _, among = named(of_example(EXAMPLES[0]), "NetworkPolicy", "fleetune-engines")["spec"]["ingress"]
    (parts,) = among["from"]
    assert parts["podSelector"]["matchExpressions"] == [
        {"key": "leaderworkerset.sigs.k8s.io/name", "operator": "Exists"}
    ]
