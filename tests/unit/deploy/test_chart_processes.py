"""What the chart tells the processes of an installation, and what secrets they are given."""

from __future__ import annotations

import yaml

from controlplane.settings import Settings
from controlplane.telemetry.tracing import ENDPOINT_VARIABLE, SHARE_VARIABLE
from tests.unit.deploy.charts import (
    EXAMPLES,
    IDS,
    container,
    named,
    of_example,
    pods,
    rendered,
)


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
