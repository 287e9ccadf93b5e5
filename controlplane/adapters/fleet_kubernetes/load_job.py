"""The Job whose pods send the load of one worker's trials: generator processes that connect to that worker. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from kubernetes import client

from controlplane.adapters.fleet_kubernetes.guarded import container_security, pod_security, tolerated
from controlplane.adapters.fleet_kubernetes.manifests import Manifest, plain
from controlplane.adapters.fleet_kubernetes.names import short_name
from controlplane.domain.load_pods import LoadPods

WORKER = "fleetune.dev/worker"
"""The label that holds the name of the Job, on itself and on its pods."""
_GPU_NODE = "nvidia.com/gpu.present"
"""A label that NVIDIA's operator gives to nodes with GPUs."""
_LOST = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_GRACE_S = 2
_SPARE = 4


class WorkerPod(NamedTuple):
    """The pod of a tuner worker, as it knows itself."""

    name: str
    uid: str
    address: str
    namespace: str


def job_name(worker: WorkerPod) -> str:
    """Return the name of the Job of a worker: it has one at a time."""
    return short_name(f"load-{worker.name}")


def load_job(worker: WorkerPod, pods: LoadPods, *, processes: int, port: int) -> Manifest:
    """Return the Job of so many generators that connect to a port of a worker. It goes with the worker's pod.

    A generator that is lost is made again; one that its master let go of is not.
    """
    labels = labels_of(worker)
    made = client.V1Job(
        api_version="batch/v1",
        kind="Job",
        metadata=client.V1ObjectMeta(
            name=job_name(worker), namespace=worker.namespace, labels=labels, owner_references=[_owner(worker)]
        ),
        spec=client.V1JobSpec(
            parallelism=processes,
            backoff_limit=processes + _SPARE,
            ttl_seconds_after_finished=60,
            template=client.V1PodTemplateSpec(
                metadata=client.V1ObjectMeta(labels=labels), spec=_pod(worker, pods, labels, port)
            ),
        ),
    )
    return plain(made)


def labels_of(worker: WorkerPod) -> dict[str, str]:
    """Return the labels of a worker's generators."""
    return {
        WORKER: job_name(worker),
        "app.kubernetes.io/component": "load-generator",
        "app.kubernetes.io/managed-by": "fleetune",
    }


def _owner(worker: WorkerPod) -> client.V1OwnerReference:
    return client.V1OwnerReference(api_version="v1", kind="Pod", name=worker.name, uid=worker.uid)


def _pod(worker: WorkerPod, pods: LoadPods, labels: dict[str, str], port: int) -> client.V1PodSpec:
    spread = client.V1TopologySpreadConstraint(
        max_skew=1,
        topology_key="kubernetes.io/hostname",
        when_unsatisfiable="ScheduleAnyway",
        label_selector=client.V1LabelSelector(match_labels=labels),
    )
    return client.V1PodSpec(
        containers=[_container(worker, pods, port)],
        restart_policy="Never",
        volumes=[client.V1Volume(name="tmp", empty_dir=client.V1EmptyDirVolumeSource())],
        node_selector=dict(pods.node_selector) or None,
        affinity=client.V1Affinity(node_affinity=_without_gpus()),
        tolerations=[*tolerated(pods.tolerations), *_soon_gone()],
        topology_spread_constraints=[spread],
        priority_class_name=pods.priority_class,
        image_pull_secrets=[client.V1LocalObjectReference(name=name) for name in pods.image_pull_secrets] or None,
        automount_service_account_token=False,
        enable_service_links=False,
        termination_grace_period_seconds=_GRACE_S,
        security_context=pod_security(),
    )


def _container(worker: WorkerPod, pods: LoadPods, port: int) -> client.V1Container:
    whole = {"cpu": str(pods.cpus), "memory": f"{pods.memory_gib}Gi"}
    return client.V1Container(
        name="generator",
        image=pods.image,
        command=["python", "-m", "loadtests.generator", worker.address, str(port)],
        env=[client.V1EnvVar(name="HOME", value="/tmp"), client.V1EnvVar(name="PYTHONUNBUFFERED", value="1")],
        resources=client.V1ResourceRequirements(limits=whole, requests=whole),
        volume_mounts=[client.V1VolumeMount(name="tmp", mount_path="/tmp")],
        working_dir="/tmp",
        termination_message_policy="FallbackToLogsOnError",
        security_context=container_security(),
    )


def _without_gpus() -> client.V1NodeAffinity:
    """Return that nodes with GPUs are no place for these, where the cluster labels them; their taint says so too."""
    term: dict[str, Any] = {"matchExpressions": [{"key": _GPU_NODE, "operator": "NotIn", "values": ["true"]}]}
    return client.V1NodeAffinity.model_validate(
        {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    )


def _soon_gone() -> list[client.V1Toleration]:
    """Return that a pod on a lost node is made again elsewhere at once, not after the usual five minutes."""
    return [client.V1Toleration(key=key, operator="Exists", effect="NoExecute", toleration_seconds=0) for key in _LOST]
