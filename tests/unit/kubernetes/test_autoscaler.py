"""Replicas that the cluster scales: valid to the letter, by what a replica sustains, never in by what is unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from controlplane.adapters.fleet_kubernetes.autoscaler import Scaling, pod_autoscaler, scaled_object
from controlplane.adapters.fleet_kubernetes.manifests import Manifest, manifests, owner_of
from controlplane.cli.main import app
from controlplane.domain.errors import InvalidInput
from controlplane.domain.operations.replica_capacity import Estimate, ReplicaCapacity, Source
from controlplane.domain.service import ServiceSpec
from controlplane.reading.service_file import load_service
from controlplane.settings import Settings, save
from tests.fakes.kubernetes.schemas import broken_rules, flaws, resource_of

EXAMPLE = Path(__file__).parents[3] / "examples" / "kubernetes.yaml"
CROWD = Estimate(value=13, low=12, high=16)
MEASURED = ReplicaCapacity(source=Source.TRIAL, rate_rps=Estimate(value=6.5, low=6, high=7), concurrent=CROWD)


@pytest.fixture
def spec() -> ServiceSpec:
    return load_service(EXAMPLE)


def scaling(**more: Any) -> Scaling:
    base = {"capacity": MEASURED, "headroom": 0.2, "max_replicas": 8, "prometheus_url": "http://prometheus:9090"}
    return Scaling.model_validate(base | more)


def keda(spec: ServiceSpec, **more: Any) -> Any:
    assert spec.kubernetes is not None
    return scaled_object(spec, owner_of(spec, spec.baseline), spec.kubernetes, scaling(**more))


def hpa(spec: ServiceSpec, **more: Any) -> Any:
    assert spec.kubernetes is not None
    return pod_autoscaler(spec, owner_of(spec, spec.baseline), spec.kubernetes, scaling(**more))


def wrong(manifest: Manifest) -> list[Any]:
    resource = resource_of(manifest["apiVersion"], manifest["kind"])
    return [*flaws(manifest, resource), *broken_rules(manifest, resource)]


@pytest.mark.parametrize("in_rollout", [False, True])
def test_both_are_valid_to_the_letter(spec: ServiceSpec, in_rollout: bool) -> None:
    assert wrong(keda(spec, in_rollout=in_rollout)) == []
    assert wrong(hpa(spec, in_rollout=in_rollout)) == []


def test_of_a_replica_larger_than_a_node_it_scales_the_set(tmp_path: Path, spec: ServiceSpec) -> None:
    file = tmp_path / "service.yaml"
    described = yaml.safe_load(EXAMPLE.read_text())
    described["autoscale"] = {**described.get("autoscale", {}), "capacity_rps": 5}
    file.write_text(yaml.safe_dump(described))
    words = ["--set", "tensor-parallel-size=16", "--autoscale", "keda"]
    done = CliRunner().invoke(app, ["render", "-f", str(file), *words])
    assert done.exit_code == 0, done.output
    found = {each["kind"]: each for each in yaml.safe_load_all(done.output)}
    target = found["ScaledObject"]["spec"]["scaleTargetRef"]
    made = found["LeaderWorkerSet"]
    assert target == {name: made[name] for name in ("apiVersion", "kind")} | {"name": made["metadata"]["name"]}
    assert "replicas" not in made["spec"]


def test_it_scales_the_deployment_that_is_rendered_whose_replicas_nobody_else_sets(spec: ServiceSpec) -> None:
    assert spec.kubernetes is not None
    deployment = manifests(spec, spec.kubernetes, spec.baseline, replicas=None)[0]
    assert "replicas" not in deployment["spec"]
    for made in (keda(spec), hpa(spec)):
        assert made["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]


def test_a_replica_is_given_what_it_sustains_with_its_headroom_free(spec: ServiceSpec) -> None:
    load, waiting = keda(spec)["spec"]["triggers"]
    assert load["metadata"]["threshold"] == "5.2"  # 6.5 requests/s, a fifth of it free
    assert waiting["metadata"]["threshold"] == str(MEASURED.concurrency_limit)
    assert hpa(spec)["spec"]["metrics"][0]["pods"]["target"]["averageValue"] == "10400m"
    assert hpa(spec, headroom=0)["spec"]["metrics"][0]["pods"]["target"]["averageValue"] == "13"


def test_what_is_not_known_is_no_load_of_nothing(spec: ServiceSpec) -> None:
    told = keda(spec)["spec"]
    assert [trigger["metadata"]["ignoreNullValues"] for trigger in told["triggers"]] == ["false"] * 2
    assert told["fallback"] == {"failureThreshold": 3, "replicas": 2, "behavior": "currentReplicasIfHigher"}


def test_load_is_what_the_engines_of_the_revision_answered_as_gateways_send_them_nothing(spec: ServiceSpec) -> None:
    assert spec.kubernetes is not None
    owner = owner_of(spec, spec.baseline)
    load, waiting = keda(spec)["spec"]["triggers"]
    own = f'{{service="chat",revision="{owner.revision}"}}'
    assert load["metadata"]["query"] == f"sum(rate(vllm:request_success_total{own}[1m]))"
    assert waiting["metadata"]["query"] == f"sum(vllm:num_requests_waiting{own})"


@pytest.mark.parametrize("by", ["keda", "hpa"])
def test_to_zero_by_an_autoscaler_of_the_cluster_is_refused_with_who_does_it(tmp_path: Path, by: str) -> None:
    described = yaml.safe_load(EXAMPLE.read_text()) | {"autoscale": {"capacity_rps": 6.5, "min_replicas": 0}}
    (tmp_path / "service.yaml").write_text(yaml.safe_dump(described))
    words = ["render", "-f", str(tmp_path / "service.yaml"), "--data-dir", str(tmp_path)]
    plain, scaled = (CliRunner().invoke(app, [*words, *more]) for more in ([], ["--autoscale", by]))
    assert plain.exit_code == 0
    assert scaled.exit_code == 2, scaled.output
    assert "cannot go to zero by an autoscaler of the cluster" in scaled.output
    assert "Fleetune's controller goes to zero and back" in " ".join(scaled.output.split())


def test_as_many_replicas_stay_as_are_asked_for(spec: ServiceSpec) -> None:
    more = spec.evolve(autoscale=spec.autoscale.evolve(min_replicas=3))
    assert keda(more)["spec"]["minReplicaCount"] == hpa(more)["spec"]["minReplicas"] == 3
    assert keda(more)["spec"]["fallback"]["replicas"] == 3


def test_no_replica_goes_in_a_rollout(spec: ServiceSpec) -> None:
    assert keda(spec, in_rollout=True)["metadata"]["annotations"] == {"autoscaling.keda.sh/paused-scale-in": "true"}
    assert hpa(spec, in_rollout=True)["spec"]["behavior"]["scaleDown"]["selectPolicy"] == "Disabled"
    assert "annotations" not in keda(spec)["metadata"]


def test_without_a_measured_crowd_only_the_rate_counts_and_a_plain_autoscaler_is_refused(spec: ServiceSpec) -> None:
    unknown = MEASURED.evolve(concurrent=None)
    assert [trigger["name"] for trigger in keda(spec, capacity=unknown)["spec"]["triggers"]] == ["load"]
    with pytest.raises(InvalidInput, match="--autoscale keda"):
        hpa(spec, capacity=unknown)


def test_the_command_prints_it_behind_the_others(tmp_path: Path) -> None:
    described = yaml.safe_load(EXAMPLE.read_text()) | {"autoscale": {"capacity_rps": 6.5, "max_replicas": 4}}
    (tmp_path / "service.yaml").write_text(yaml.safe_dump(described))
    words = ["render", "-f", str(tmp_path / "service.yaml"), "--autoscale", "keda", "--data-dir", str(tmp_path)]
    done = CliRunner().invoke(app, words)
    kinds = [each["kind"] for each in yaml.safe_load_all(done.output)]
    assert kinds == ["Deployment", "Service", "PodDisruptionBudget", "ScaledObject"]


def test_a_capacity_that_nobody_knows_is_one_message(tmp_path: Path) -> None:
    save(Settings(data_dir=tmp_path))
    words = ["render", "-f", str(EXAMPLE), "--autoscale", "keda", "--data-dir", str(tmp_path)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code != 0
    assert "autoscale.capacity_rps" in f"{done.output}{done.exception}"
