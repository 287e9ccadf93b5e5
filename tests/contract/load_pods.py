"""A worker's generators as pods of the stand-in, which really run on a node without GPUs, and what they load."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from controlplane.adapters.fleet_kubernetes.door import open_door
from controlplane.adapters.fleet_kubernetes.load_hosts import LoadHostsKubernetes
from controlplane.adapters.fleet_kubernetes.load_job import WorkerPod
from controlplane.adapters.loadtester_locust import LoadTesterElsewhere, LocustLoadTester
from controlplane.domain.load_pods import LoadPods
from controlplane.domain.workload import Lengths, SyntheticWorkload
from controlplane.ports.load import LoadRequest
from tests.fakes.kubernetes.cluster import StandIn
from tests.fakes.kubernetes.schemas import Object, resource_of

NODE = "cpu-load"
POD = resource_of("v1", "Pod")
JOB = resource_of("batch/v1", "Job")
HOST = "127.0.0.9"  # not the loopback that a load tester takes for its own host
WORKLOAD = SyntheticWorkload(prompt_tokens=Lengths(mean=50, cv=0.3), output_tokens=Lengths(mean=8))
PODS = LoadPods(image="registry.example/fleetune/control:1")


def worker_pod(cluster: StandIn, name: str) -> WorkerPod:
    """Put the pod of a worker into the cluster: it runs in the process of the test, which has its address."""
    container: Object = {"name": "worker", "image": "worker", "command": ["vllm", "serve", "m", "--port", "9"]}
    spec: Object = {"nodeName": NODE, "containers": [container]}
    if NODE not in cluster.nodes:
        cluster.add_node(NODE, gpus=0).missing_images.add("worker")
    made = cluster.objects.create(POD, "default", {"metadata": {"name": name}, "spec": spec})
    return WorkerPod(name, made["metadata"]["uid"], "127.0.0.1", "default")


def load_hosts(cluster: StandIn, worker: WorkerPod, **more: Any) -> LoadHostsKubernetes:
    return LoadHostsKubernetes(open_door(cluster.kubeconfig()), worker, PODS, **more)


@contextmanager
def load_of_pods(cluster: StandIn, name: str, *, processes: int, **more: Any) -> Iterator[LoadTesterElsewhere]:
    """Give a load tester whose levels come from so many pods."""
    hosts = load_hosts(cluster, worker_pod(cluster, name), **more)
    here = LocustLoadTester()
    with LoadTesterElsewhere(hosts, needed=lambda _: processes, address="127.0.0.1", here=here) as tester:
        yield tester


@contextmanager
def ground_truth(folder: Path) -> Iterator[str]:
    """Give the URL of a ground-truth server: first token after 20 ms, then one every 2 ms."""
    latencies = ["--first-ms", "20", "--gap-ms", "2", "--host", HOST]
    command = [sys.executable, "-m", "loadtests.measure.ground_truth", *latencies, "--truth", str(folder / "rows")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://{HOST}:{int(server.stdout.readline())}"
        finally:
            server.terminate()


def level(url: str, *, rate: float = 40, seconds: float = 1.5, **more: object) -> LoadRequest:
    fields = {"workload": WORKLOAD, "rate_rps": rate, "url": url, "model": "m", "duration_s": seconds, "warmup_s": 0.5}
    return LoadRequest.model_validate(fields | more)


def generators(cluster: StandIn) -> list[Object]:
    """Return the pods of generators that are not about to go."""
    label = "app.kubernetes.io/component"
    found = [pod for pod in cluster.objects.list(POD) if pod["metadata"].get("labels", {}).get(label)]
    mine = [pod for pod in found if pod["metadata"]["labels"][label] == "load-generator"]
    return [pod for pod in mine if not pod["metadata"].get("deletionTimestamp")]


class UntilHeldUp:
    """Seconds of a patience of one that go by once the cluster has said of a Job's pods why one does not run.

    However long a busy machine takes for that; and who asked before it was said looks once more.
    """

    patience_s = 1.0

    def __init__(self, cluster: StandIn) -> None:
        self._cluster, self._at_s, self._is_told = cluster, 0.0, False

    def __call__(self) -> float:
        self._at_s += 2 * self.patience_s if self._is_told else 0.0
        present = {job["metadata"]["uid"] for job in self._cluster.objects.list(JOB)}
        mine = [pod for pod in generators(self._cluster) if pod["metadata"]["ownerReferences"][0]["uid"] in present]
        self._is_told = any(map(_is_held_up, mine))
        return self._at_s


def _is_held_up(pod: Object) -> bool:
    status = pod.get("status", {})
    unplaced = any(e["type"] == "PodScheduled" and e["status"] == "False" for e in status.get("conditions", []))
    return unplaced or any(each["state"].get("waiting") for each in status.get("containerStatuses", []))


def jobs(cluster: StandIn) -> list[str]:
    """Return the names of the Jobs there are."""
    return [job["metadata"]["name"] for job in cluster.objects.list(JOB)]
