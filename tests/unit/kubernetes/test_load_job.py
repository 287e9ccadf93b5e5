"""The Job of load generators: valid to the letter, without GPUs or rights, and gone with its worker's pod."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from controlplane.adapters.fleet_kubernetes.load_job import WorkerPod, load_job
from controlplane.adapters.fleet_kubernetes.manifests import as_yaml
from controlplane.domain.load_pods import LoadPods, LoadRate
from tests.fakes.kubernetes.pod_security import violations
from tests.fakes.kubernetes.schemas import broken_rules, flaws, resource_of

WORKER = WorkerPod("llm-fleetune-worker-5d8", "3f2c", "10.0.0.7", "inference")
PODS = LoadPods(
    image="registry.example/fleetune/control:1",
    image_pull_secrets=("registry",),
    node_selector={"pool": "cpu"},
    tolerations={"batch": "true"},
    priority_class="fleetune-trials",
)
GOLDEN = Path(__file__).parent / "golden_load.yaml"


def made(pods: LoadPods = PODS) -> dict[str, Any]:
    return load_job(WORKER, pods, processes=3, port=24_001)


def test_a_job_is_exactly_the_golden_file() -> None:
    assert as_yaml([made()]) == GOLDEN.read_text()


@pytest.mark.parametrize("pods", [PODS, LoadPods(image="a")], ids=["all said", "least said"])
def test_a_job_is_valid_to_the_letter(pods: LoadPods) -> None:
    job, resource = made(pods), resource_of("batch/v1", "Job")
    client.V1Job.model_validate(job)
    assert [*flaws(job, resource), *broken_rules(job, resource)] == []
    assert list(violations(job["spec"]["template"]["spec"])) == []


def test_generators_need_no_gpu_no_right_and_no_secret_and_share_no_core() -> None:
    spec = made()["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["resources"]["limits"] == container["resources"]["requests"] == {"cpu": "2", "memory": "2Gi"}
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {each["name"] for each in container["env"]} == {"HOME", "PYTHONUNBUFFERED"}


def test_a_job_goes_with_its_workers_pod() -> None:
    (owner,) = made()["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Pod", "3f2c")


@pytest.mark.parametrize(
    ("requests_per_s", "tokens_per_s", "pods"),
    [(1, 100, 1), (500, 15_000, 1), (501, 100, 2), (10, 45_001, 4), (100_000, 1, 8)],
)
def test_pods_are_as_many_as_requests_and_tokens_take_up_to_the_most(
    requests_per_s: float, tokens_per_s: float, pods: int
) -> None:
    assert PODS.needed(LoadRate(requests_per_s, tokens_per_s)) == pods
