"""The chart's gateways: their options, their certificates, and that they are found and drained."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from controlplane.adapters.fleet_kubernetes.gateways import ADMIN_PORT, ADMIN_SCHEME, PORT, SELECTOR
from controlplane.gateway.__main__ import RABBITMQ_VARIABLE, _parser
from controlplane.settings import Settings
from tests.fakes.kubernetes.schemas import broken_rules, flaws, resource_of
from tests.unit.deploy.charts import (
    CHART,
    EXAMPLES,
    IDS,
    Object,
    container,
    named,
    pods,
    rendered,
    values_of,
)


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
