"""The pod of one replica: one engine container that starts, drains and is looked at as vLLM needs it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from kubernetes import client

from controlplane.adapters.fleet_kubernetes.guarded import container_security, pod_security, tolerated
from controlplane.domain.cluster import ClusterOptions, ModelCache
from controlplane.domain.engines.engine import EngineKind
from controlplane.domain.engines.fleet import EngineSpec
from controlplane.domain.errors import InvalidInput
from controlplane.domain.launch import serve_arguments, shutdown_timeout_s
from controlplane.domain.owner import Owner, ReplayOwner, ReplicaOwner, TrialOwner

PORT = 8000
CONTAINER = "engine"
_PROBE_EVERY_S = 5
_START_SLACK = 6  # probes more than the time-out needs: who looks gives up first and says why
_SLACK_S = 30  # between the engine's own shutdown time-out and the cluster's SIGKILL
_WRITABLE = "/scratch"
_HOST = "kubernetes.io/hostname"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"

_WAIT_FOR_REQUESTS = """\
import sys, time, urllib.request
COUNTS = "vllm:num_requests_running", "vllm:num_requests_waiting"
url, until = sys.argv[1], time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    lines = urllib.request.urlopen(url, timeout=5).read().decode().splitlines()
    if not sum(float(line.split()[-1]) for line in lines if line.split("{")[0].split(" ")[0] in COUNTS):
        break
    time.sleep(1)
"""
"""Runs in the engine's image before SIGTERM: until nothing is in flight, or for so many seconds."""


def nodes_of(engine: EngineSpec, cluster: ClusterOptions) -> int:
    """Return how many nodes one replica spans. Raises InvalidInput when it would leave a part of one empty."""
    if engine.gpus <= cluster.gpus_per_node:
        return 1
    nodes, left = divmod(engine.gpus, cluster.gpus_per_node)
    if left:
        raise InvalidInput(
            f"a replica on {engine.gpus} GPUs does not fill whole nodes of {cluster.gpus_per_node}",
            why="a LeaderWorkerSet has the same pod on each of its nodes",
            allowed=f"tensor-parallel-size x pipeline-parallel-size up to {cluster.gpus_per_node}, or a multiple of it",
        )
    if engine.kind is not EngineKind.VLLM:
        raise InvalidInput(
            f"an engine of kind {engine.kind.value} cannot span {nodes} nodes",
            allowed=f"engine.kind vllm, or up to {cluster.gpus_per_node} GPUs",
        )
    return nodes


def pod_template(engine: EngineSpec, cluster: ClusterOptions, labels: Mapping[str, str]) -> client.V1PodTemplateSpec:
    """Return the template of a replica's pods where one is enough."""
    spread = client.V1TopologySpreadConstraint(
        max_skew=1,
        topology_key=_HOST,
        when_unsatisfiable="ScheduleAnyway",
        label_selector=client.V1LabelSelector(match_labels=dict(labels)),
    )
    made = _template(engine, cluster, labels, _container(engine, cluster), spread)
    assert made.spec is not None
    return made.model_copy(update={"spec": made.spec.model_copy(update={"affinity": _apart(labels)})})


def _apart(labels: Mapping[str, str]) -> client.V1Affinity:
    """Return that pods with these labels would rather not share a node: nodes of eight GPUs may be all there is."""
    term = client.V1PodAffinityTerm(
        topology_key=_HOST, label_selector=client.V1LabelSelector(match_labels=dict(labels))
    )
    wish = client.V1WeightedPodAffinityTerm(weight=100, pod_affinity_term=term)
    return client.V1Affinity.model_validate({"podAntiAffinity": {_PREFERRED: [wish.to_dict()]}})


def leader_template(engine: EngineSpec, cluster: ClusterOptions, labels: Mapping[str, str]) -> client.V1PodTemplateSpec:
    """Return the template of the pod that serves, of a replica of several nodes."""
    return _template(engine, cluster, labels, _container(engine, cluster))


def worker_template(engine: EngineSpec, cluster: ClusterOptions, labels: Mapping[str, str]) -> client.V1PodTemplateSpec:
    """Return the template of the other pods: they compute only, nobody asks them, and they end with the leader."""
    silent = {"ports": None, "startup_probe": None, "readiness_probe": None, "liveness_probe": None, "lifecycle": None}
    container = _container(engine, cluster)
    args = [*(container.args or []), "--headless"]
    return _template(engine, cluster, labels, container.model_copy(update={**silent, "args": args}))


def _template(
    engine: EngineSpec,
    cluster: ClusterOptions,
    labels: Mapping[str, str],
    container: client.V1Container,
    *spread: client.V1TopologySpreadConstraint,
) -> client.V1PodTemplateSpec:
    return client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=dict(labels)),
        spec=client.V1PodSpec(
            containers=[container],
            volumes=_volumes(cluster),
            node_selector=dict(cluster.selector(spot=engine.spot)) or None,
            tolerations=_tolerations(cluster, spot=engine.spot),
            topology_spread_constraints=list(spread) or None,
            priority_class_name=_priority_class(engine.owner, cluster),
            automount_service_account_token=False,
            enable_service_links=False,  # a Service named `vllm` would set VLLM_PORT, and vLLM reads it
            termination_grace_period_seconds=grace_s(engine, cluster),
            security_context=pod_security(),
        ),
    )


def _tolerations(cluster: ClusterOptions, *, spot: bool) -> list[client.V1Toleration]:
    of_gpus = client.V1Toleration(key=cluster.gpu_resource, operator="Exists", effect="NoSchedule")
    return [of_gpus, *tolerated(cluster.tolerated(spot=spot))]


def _priority_class(owner: Owner, cluster: ClusterOptions) -> str | None:
    match owner:
        case ReplicaOwner():
            return cluster.priority_class
        case TrialOwner() | ReplayOwner():
            return cluster.trial_priority_class


def grace_s(engine: EngineSpec, cluster: ClusterOptions) -> int:
    """Return how long a pod may take to end: its hook, then the engine's own time-out, then some."""
    return cluster.drain_s + shutdown_timeout_s(engine) + _SLACK_S


def _container(engine: EngineSpec, cluster: ClusterOptions) -> client.V1Container:
    nodes = nodes_of(engine, cluster)
    gpus = {cluster.gpu_resource: str(engine.gpus // nodes)}
    return client.V1Container(
        name=CONTAINER,
        image=cluster.image,
        image_pull_policy="IfNotPresent",
        command=[_verbatim(word) for word in _program(engine)],
        args=[*map(_verbatim, serve_arguments(engine)), *_among(nodes)],
        ports=[client.V1ContainerPort(name="http", container_port=PORT)],
        env=[*_environment(engine, cluster), *_own_address(engine, nodes)],
        resources=client.V1ResourceRequirements(limits=gpus, requests=gpus),
        volume_mounts=_mounts(cluster),
        startup_probe=_probe(failures=math.ceil(engine.starts_within_s / _PROBE_EVERY_S) + _START_SLACK),
        readiness_probe=_probe(failures=2),
        liveness_probe=_probe(failures=12),  # a long step is no death: a minute of silence is
        termination_message_policy="FallbackToLogsOnError",  # why it died is known without the right to read logs
        lifecycle=client.V1Lifecycle(pre_stop=_wait(cluster.drain_s)),
        security_context=container_security(),
    )


def _verbatim(word: str) -> str:
    """Return a word that a cluster hands on as it is: of `$(NAME)` it makes a variable's value, and of `$$` one `$`."""
    return word.replace("$", "$$")


def _among(nodes: int) -> Sequence[str]:
    """Return how the parts of a replica find each other, by variables that the set gives to each of its pods."""
    if nodes == 1:
        return ()
    rank, leader = "$(LWS_WORKER_INDEX)", "$(LWS_LEADER_ADDRESS)"
    return ("--nnodes", str(nodes), "--node-rank", rank, "--master-addr", leader)


def _own_address(engine: EngineSpec, nodes: int) -> Sequence[client.V1EnvVar]:
    if nodes == 1 or "VLLM_HOST_IP" in engine.env:
        return ()
    found = client.V1EnvVarSource(field_ref=client.V1ObjectFieldSelector(field_path="status.podIP"))
    return (client.V1EnvVar(name="VLLM_HOST_IP", value_from=found),)


def _program(engine: EngineSpec) -> Sequence[str]:
    where = ("--host", "0.0.0.0", "--port", str(PORT))  # a pod's address is its own; NetworkPolicies guard it
    if engine.command is not None:
        raise InvalidInput(
            "engine.command cannot be rendered for a cluster",
            why="it names a program of one host",
            allowed="an image whose own vLLM is the one wanted",
        )
    match engine.kind:
        case EngineKind.VLLM:
            return ("vllm", "serve", engine.model, *where)
        case EngineKind.EMULATOR:
            return ("fleetune-emulator", engine.model, *where)
        case (
            EngineKind.SGLANG
            | EngineKind.TENSORRT_LLM
            | EngineKind.TGI
            | EngineKind.LLAMA_CPP
            | EngineKind.EMBED
            | EngineKind.COMMAND
        ):
            raise InvalidInput(
                f"engines of kind {engine.kind.value} cannot be rendered for a cluster yet",
                why="their images and probes are not described",
                allowed="engine.kind vllm or emulator",
            )


def _environment(engine: EngineSpec, cluster: ClusterOptions) -> list[client.V1EnvVar]:
    """Return paths that can be written to, and the service's own variables by reference only: they may be secret."""
    if engine.env and cluster.env_from_secret is None:
        raise InvalidInput(
            f"engine.env ({', '.join(sorted(engine.env))}) needs a Secret",
            why="values of variables are never written into manifests",
            allowed="kubernetes.env_from_secret: the name of a Secret with these keys",
        )
    fixed = {"HOME": _WRITABLE, "XDG_CACHE_HOME": f"{_WRITABLE}/cache", "PYTHONUNBUFFERED": "1"}
    if cluster.model_cache is not None:
        fixed["HF_HOME"] = cluster.model_cache.mount_path
    ours = {name: value for name, value in fixed.items() if name not in engine.env}  # a name said twice is refused
    return [client.V1EnvVar(name=name, value=value) for name, value in sorted(ours.items())] + [
        client.V1EnvVar(name=name, value_from=_of_secret(cluster.env_from_secret, name)) for name in sorted(engine.env)
    ]


def _of_secret(secret: str | None, key: str) -> client.V1EnvVarSource:
    return client.V1EnvVarSource(secret_key_ref=client.V1SecretKeySelector(name=secret, key=key))


def _probe(*, failures: int) -> client.V1Probe:
    return client.V1Probe(
        http_get=client.V1HTTPGetAction(path="/health", port="http"),
        period_seconds=_PROBE_EVERY_S,
        timeout_seconds=_PROBE_EVERY_S,
        failure_threshold=failures,
    )


def _wait(drain_s: int) -> client.V1LifecycleHandler:
    url = f"http://127.0.0.1:{PORT}/metrics"
    command = ["python3", "-c", _WAIT_FOR_REQUESTS, url, str(drain_s)]
    return client.V1LifecycleHandler.model_validate({"exec": {"command": command}})  # a reserved word, no keyword


def _volumes(cluster: ClusterOptions) -> list[client.V1Volume]:
    shared = client.V1EmptyDirVolumeSource(medium="Memory", size_limit=f"{cluster.shared_memory_gib}Gi")
    found = [
        client.V1Volume(name="shm", empty_dir=shared),
        client.V1Volume(name="scratch", empty_dir=client.V1EmptyDirVolumeSource()),
        client.V1Volume(name="tmp", empty_dir=client.V1EmptyDirVolumeSource()),
    ]
    return found if cluster.model_cache is None else [*found, _models(cluster.model_cache)]


def _models(cache: ModelCache) -> client.V1Volume:
    if cache.claim is not None:
        claim = client.V1PersistentVolumeClaimVolumeSource(claim_name=cache.claim)
        return client.V1Volume(name="models", persistent_volume_claim=claim)
    return client.V1Volume(
        name="models", host_path=client.V1HostPathVolumeSource(path=cache.host_path, type="Directory")
    )


def _mounts(cluster: ClusterOptions) -> list[client.V1VolumeMount]:
    places = {"shm": "/dev/shm", "scratch": _WRITABLE, "tmp": "/tmp"}  # the container's, on a volume
    if cluster.model_cache is not None:
        places["models"] = _free_place(cluster.model_cache.mount_path, places)
    return [client.V1VolumeMount(name=name, mount_path=path) for name, path in places.items()]


def _free_place(path: str, taken: Mapping[str, str]) -> str:
    if path.rstrip("/") in taken.values():
        raise InvalidInput(
            f"models cannot lie in {path}",
            why="the pod has another volume there",
            allowed=f"model_cache.mount_path: any but {', '.join(taken.values())}",
        )
    return path
