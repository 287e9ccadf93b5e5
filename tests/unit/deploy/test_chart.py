"""The Helm chart: every object of every example is valid to the letter, and says what the control plane needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml
from helm_python import HelmError

from controlplane.adapters.fleet_kubernetes.gateways import ADMIN_PORT, ADMIN_SCHEME, PORT, SELECTOR
from controlplane.adapters.fleet_kubernetes.load_job import WorkerPod, labels_of
from controlplane.gateway.__main__ import RABBITMQ_VARIABLE, _parser
from controlplane.reading.service_file import load_service
from controlplane.settings import POD_VARIABLES, Settings
from controlplane.telemetry.tracing import ENDPOINT_VARIABLE, SHARE_VARIABLE
from dashboards.observability.rules import rule_file
from tests.fakes.kubernetes.pod_security import violations
from tests.fakes.kubernetes.schemas import broken_rules, flaws, resource_of
from tests.unit.deploy.charts import CHART, EXAMPLES, ROOT, Object, named, of_example, rendered, values_of

RIGHTS = ROOT / "deploy" / "kubernetes" / "rights.yaml"
IDS = [example.stem for example in EXAMPLES]


def pods(objects: Any) -> Iterator[tuple[str, Object]]:
    for each in objects:
        if each["kind"] in ("Deployment", "Job"):
            yield each["metadata"]["name"], each["spec"]["template"]


def container(objects: Any, name: str) -> Object:
    found: Object = dict(pods(objects))[name]["spec"]["containers"][0]
    return found


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


def test_the_installation_is_one_that_processes_read() -> None:
    objects = of_example(EXAMPLES[IDS.index("aks")])
    data = named(objects, "ConfigMap", "fleetune")["data"]
    settings = Settings.model_validate_json(data["installation.json"])
    assert settings.cluster is not None
    assert (settings.cluster.namespace, settings.cluster.gateways, settings.host) == ("inference", True, "0.0.0.0")
    mounts = {each["mountPath"] for each in container(objects, "fleetune-api")["volumeMounts"]}
    assert {str(settings.data_dir), str(settings.secrets_dir), str(settings.issuers_file and "/etc/fleetune")} <= mounts
    assert "password" not in yaml.safe_dump_all(objects)  # the store's URL comes from a Secret


def test_an_mlflow_is_the_installations_and_its_token_the_controllers_alone() -> None:
    secret = {"name": "mlflow", "key": "token"}
    objects = rendered({"mlflow": {"url": "https://mlflow.example", "tokenSecret": secret}})
    settings = Settings.model_validate_json(named(objects, "ConfigMap", "fleetune")["data"]["installation.json"])
    assert settings.mlflow_url == "https://mlflow.example"
    with_it = [
        each["metadata"]["name"]
        for each in objects
        if each["kind"] == "Deployment" and "MLFLOW_TRACKING_TOKEN" in yaml.safe_dump(each)
    ]
    assert with_it == ["fleetune-controller"]
    given = container(objects, "fleetune-controller")["env"]
    assert {"name": "MLFLOW_TRACKING_TOKEN", "valueFrom": {"secretKeyRef": secret}} in given


def test_a_gateway_understands_its_options_and_is_found_by_its_label_and_ports() -> None:
    values = values_of(EXAMPLES[0]) | {"gateway": {"auditDays": 3, "websocket": True, "corsOrigins": ["https://a"]}}
    objects = rendered(values)
    gateway = container(objects, "fleetune-gateway")
    told = _parser().parse_args(gateway["command"][3:])
    assert (told.host, told.admin_host, told.audit_days, told.cors_origins) == ("0.0.0.0", "0.0.0.0", 3, ["https://a"])
    ports = {each["name"]: each["containerPort"] for each in gateway["ports"]}
    assert ports == {PORT: told.port, ADMIN_PORT: told.admin_port}
    labels = dict(pods(objects))["fleetune-gateway"]["metadata"]["labels"]
    assert all(labels[word.split("=")[0]] == word.split("=")[1] for word in SELECTOR.split(","))


def test_batches_have_their_quota_their_bucket_and_their_queue() -> None:
    quota = {"tenantBytes": 5_000_000_000, "tenantOpenBatches": 7}
    s3, rabbitmq = {"bucket": "files/llm", "secret": "aws"}, {"urlSecret": {"name": "rabbitmq", "key": "url"}}
    batches = {"days": 2.5, "quota": quota, "s3": s3, "rabbitmq": rabbitmq}
    sizes = {"cacheBytes": 1_000_000_000, "collectingBytes": 7}
    gateway = container(rendered({"gateway": {"batches": batches, **sizes}}), "fleetune-gateway")
    told = _parser().parse_args(gateway["command"][3:])
    plain = _parser().parse_args(container(rendered({}), "fleetune-gateway")["command"][3:])
    assert (told.batch_days, told.batch_s3) == (2.5, "files/llm")
    assert (told.cache_bytes, told.collecting_bytes) == (1_000_000_000, 7)
    assert (told.batch_tenant_bytes, told.batch_tenant_open_batches) == (5_000_000_000, 7)
    assert (told.batch_all_bytes, told.batch_at_once) == (plain.batch_all_bytes, plain.batch_at_once)
    assert plain.batch_days is None
    assert gateway["envFrom"] == [{"secretRef": {"name": "aws"}}]
    assert {"name": RABBITMQ_VARIABLE, "valueFrom": {"secretKeyRef": rabbitmq["urlSecret"]}} in gateway["env"]


def test_traces_of_every_process_go_to_the_collector_and_its_secret_by_reference() -> None:
    headers = {"name": "collector", "key": "headers"}
    tracing = {"endpoint": "http://collector:4318", "share": 0.2, "headersSecret": headers}
    objects = rendered({"tracing": tracing})
    for name in ("api", "controller", "worker", "gateway"):
        given = {each["name"]: each for each in container(objects, f"fleetune-{name}")["env"]}
        assert given[ENDPOINT_VARIABLE]["value"] == "http://collector:4318", name
        assert given[SHARE_VARIABLE]["value"] == "0.2"
        assert given["OTEL_EXPORTER_OTLP_HEADERS"]["valueFrom"] == {"secretKeyRef": headers}
    assert ENDPOINT_VARIABLE not in yaml.safe_dump_all(rendered({}))


def test_git_of_workers_has_its_settings_and_keys_from_a_secret() -> None:
    objects = rendered({"commits": {"gitSecret": "fleet-repository"}})
    worker = dict(pods(objects))["fleetune-worker"]["spec"]
    env = {each["name"]: each.get("value") for each in worker["containers"][0]["env"]}
    (mount,) = [each for each in worker["containers"][0]["volumeMounts"] if each["name"] == "git"]
    (volume,) = [each for each in worker["volumes"] if each["name"] == "git"]
    assert env["GIT_CONFIG_GLOBAL"] == f"{mount['mountPath']}/gitconfig"
    assert volume["secret"]["secretName"] == "fleet-repository"
    assert "fleetune-git" not in yaml.safe_dump(container(objects, "fleetune-controller"))


def test_every_option_of_a_gateway_is_a_value_or_said_not_to_be() -> None:
    """What the chart sets itself, and what a gateway in a cluster leaves to what stands before it."""
    options = {word for action in _parser()._actions for word in action.option_strings if word.startswith("--")}
    template = (CHART / "templates" / "gateway.yaml").read_text()
    quota = {f"--batch-{name}" for name in ("tenant-bytes", "all-bytes", "tenant-files", "tenant-open-batches")}
    by_name = quota | {"--batch-tenant-batches", "--batch-free-disk-bytes"}
    lacking = {word for word in options - by_name if word[2:] not in template}
    of_engines = {"--engine-ca", "--engine-cert", "--engine-key"}  # pods of engines are asked over http
    assert lacking == of_engines | {"--help", "--log-file", "--seed", "--until-stdin-ends"}


def secured(**more: Any) -> Object:
    tls = {"secret": "door", "serverName": "llm.example"}
    return {"gateway": {"tls": tls, "adminTls": {"secret": "admin", "serverName": "gateways.internal"}, **more}}


def test_a_gateway_of_the_chart_always_asks_for_keys() -> None:
    assert _parser().parse_args(container(rendered({}), "fleetune-gateway")["command"][3:]).require_keys is True


def test_a_gateway_has_its_certificate_from_a_secret_and_is_probed_and_reached_by_https() -> None:
    objects = rendered(secured(grpc=True) | {"entry": {"kind": "ingress", "host": "llm.example"}})
    pod = dict(pods(objects))["fleetune-gateway"]["spec"]
    told = _parser().parse_args(pod["containers"][0]["command"][3:])
    mounts = {each["name"]: each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
    secrets = {each["name"]: each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each}
    assert (secrets["tls"], secrets["admin-tls"]) == ("door", "admin")
    assert {str(told.tls_cert.parent), str(told.tls_key.parent)} == {mounts["tls"]}
    assert {str(told.admin_tls_cert.parent), str(told.admin_tls_key.parent)} == {mounts["admin-tls"]}
    probes = [pod["containers"][0][name]["httpGet"]["scheme"] for name in ("readinessProbe", "livenessProbe")]
    assert probes == ["HTTPS", "HTTPS"]
    ports = {each["name"]: each for each in named(objects, "Service", "fleetune-gateway")["spec"]["ports"]}
    assert (ports["https"]["port"], ports["grpc"]["appProtocol"]) == (443, "https")
    (rule,) = named(objects, "Ingress", "fleetune-gateway")["spec"]["rules"]
    assert rule["http"]["paths"][0]["backend"]["service"]["port"] == {"name": "https"}


def test_controllers_know_gateways_by_their_authority_and_see_no_key_of_theirs() -> None:
    objects = rendered(secured())
    settings = Settings.model_validate_json(named(objects, "ConfigMap", "fleetune")["data"]["installation.json"])
    assert settings.cluster is not None
    trust = settings.cluster.admin_trust
    assert trust is not None
    assert trust.server_name == "gateways.internal"
    controller = dict(pods(objects))["fleetune-controller"]["spec"]
    mounts = {each["name"]: each["mountPath"] for each in controller["containers"][0]["volumeMounts"]}
    (volume,) = [each for each in controller["volumes"] if each["name"] == "gateways"]
    assert volume["secret"] == {"secretName": "admin", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    assert str(trust.ca) == f"{mounts['gateways']}/ca.crt"
    assert dict(pods(objects))["fleetune-gateway"]["metadata"]["annotations"][ADMIN_SCHEME] == "https"
    plain = rendered({})
    assert ADMIN_SCHEME not in yaml.safe_dump_all(plain)
    assert "fleetune-gateways" not in yaml.safe_dump(dict(pods(plain))["fleetune-controller"])


@pytest.mark.parametrize(
    ("key", "config"),
    [
        ("ca.crt", {"serverName": "llm.example", "ca": {"secret": {"name": "door", "key": "ca.crt"}}}),
        ("", {"serverName": "llm.example"}),
    ],
)
def test_prometheus_reads_a_gateway_at_https_by_the_name_of_its_certificate(key: str, config: Object) -> None:
    values = secured() | {"monitoring": {"enabled": True, "keySecret": {"name": "prometheus"}}}
    values["gateway"]["tls"] |= {"caKey": key}
    (endpoint,) = named(rendered(values), "PodMonitor", "fleetune-gateways")["spec"]["podMetricsEndpoints"]
    assert (endpoint["scheme"], endpoint["tlsConfig"]) == ("https", config)
    assert endpoint["authorization"] == {"type": "Bearer", "credentials": {"name": "prometheus", "key": "key"}}


def test_every_object_with_certificates_is_valid_to_the_letter() -> None:
    values = values_of(EXAMPLES[IDS.index("eks")]) | secured(grpc=True)
    for each in rendered(values):
        resource = resource_of(each["apiVersion"], each["kind"])
        assert [*flaws(each, resource), *broken_rules(each, resource)] == [], each["metadata"]["name"]


def test_the_network_lets_clients_reach_grpc_only_where_it_is_spoken() -> None:
    for spoken in (False, True):
        policy = named(rendered({"gateway": {"grpc": spoken}}), "NetworkPolicy", "fleetune-gateway")["spec"]
        reached = {each["port"] for each in policy["ingress"][0]["ports"]}
        assert reached == ({"http", "grpc"} if spoken else {"http"})


def test_a_gateway_speaks_grpc_where_it_is_wanted() -> None:
    objects = rendered(values_of(EXAMPLES[0]) | {"gateway": {"grpc": True}})
    gateway = container(objects, "fleetune-gateway")
    told = _parser().parse_args(gateway["command"][3:])
    ports = {each["name"]: each["containerPort"] for each in gateway["ports"]}
    assert (ports["grpc"], told.grpc_host) == (told.grpc_port, "0.0.0.0")
    (service,) = [each for each in objects if each["kind"] == "Service" and "gateway" in each["metadata"]["name"]]
    assert {each["targetPort"] for each in service["spec"]["ports"]} == {"http", "grpc"}


def test_a_gateway_has_time_to_finish_what_it_began() -> None:
    objects = rendered(values_of(EXAMPLES[0]) | {"gateway": {"drainSeconds": 300}})
    pod = dict(pods(objects))["fleetune-gateway"]["spec"]
    waits = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > waits + 300
    assert "--drain-s=300" in pod["containers"][0]["command"]


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
