"""A pass over many replicas: `python -m benchmarks.kubernetes_passes [--revisions 200 --replicas 10]`.

Deployments and ready pods are put into the stand-in's API server, a process of its own, as they would be, without nodes
or processes. Measured is `FleetKubernetes.list`, with which a pass of the controller begins: its seconds, the requests
the server saw, and the memory of this process before and after. Nothing is random.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from kubernetes import client

from controlplane.adapters.fleet_kubernetes.door import Door
from controlplane.adapters.fleet_kubernetes.fleet import FleetKubernetes
from controlplane.adapters.fleet_kubernetes.ledger import Entry, Ledger, noted
from controlplane.adapters.fleet_kubernetes.manifests import deployment
from controlplane.domain.base import EngineId, RevisionId, ServiceName
from controlplane.domain.cluster import ClusterOptions
from controlplane.domain.engines.engine import EngineConfig, EngineKind
from controlplane.domain.engines.fleet import EngineSpec
from controlplane.domain.owner import ReplicaOwner
from tests.fakes.kubernetes.faults import Faults
from tests.fakes.kubernetes.objects import Objects
from tests.fakes.kubernetes.schemas import resource_of
from tests.fakes.kubernetes.server import ApiServer
from tests.fakes.kubernetes.writes import Writer

START = datetime(2026, 1, 1, tzinfo=UTC)
STATUS = Writer(manager="kubelet", subresource="status")
CLUSTER = ClusterOptions(image=f"registry.example/engine@sha256:{0:064}")


class Passes(NamedTuple):
    revisions: int
    replicas: int
    engines: int
    first_s: float  # lists everything once
    median_s: float
    longest_s: float
    median_cpu_s: float  # of this process
    longest_cpu_s: float
    requests: int  # in all passes after the first
    memory_grown_mib: float  # of the largest resident set, over all passes after the first


Replicas = tuple[EngineSpec, Ledger]
"""What runs of one revision."""


def fill(objects: Objects, found: Iterable[Replicas]) -> None:
    """Put ready replicas into a server."""
    objects.create(resource_of("v1", "Namespace"), "", {"metadata": {"name": CLUSTER.namespace}})
    objects.create(resource_of("v1", "Node"), "", {"metadata": {"name": "n-1"}})
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    objects.change(resource_of("v1", "Node"), "", "n-1", lambda node: {**node, "status": ready}, STATUS)
    for spec, ledger in found:
        _put(objects, spec, ledger)


def some(*, revisions: int, replicas: int) -> Iterator[Replicas]:
    """Yield so many revisions of one service, with so many ready replicas each."""
    for number in range(revisions):
        yield _revision(number, replicas)


def _revision(number: int, replicas: int) -> Replicas:
    spec = EngineSpec(
        engine_id=EngineId("any"),
        owner=ReplicaOwner(ServiceName("chat"), RevisionId(f"rev-{number}")),
        kind=EngineKind.VLLM,
        model="/models/llama-8b",
        served_name="llama-8b",
        config=EngineConfig(flags={"max-model-len": 8192}),
        gpus=1,
    )
    pods = [f"chat-rev-{number}-{place}" for place in range(replicas)]
    return spec, {EngineId(pod): Entry(started_at=START, pod=pod, ready_at=START) for pod in pods}


def _put(objects: Objects, spec: EngineSpec, ledger: Ledger) -> None:
    made = deployment(spec, CLUSTER, replicas=len(ledger), annotations=noted(spec, ledger))
    objects.create(resource_of("apps/v1", "Deployment"), CLUSTER.namespace, made)
    template = made["spec"]["template"]
    for name in (str(entry.pod) for entry in ledger.values()):
        pod = {"metadata": {"name": name, **template["metadata"]}, "spec": {**template["spec"], "nodeName": "n-1"}}
        objects.create(resource_of("v1", "Pod"), CLUSTER.namespace, pod)
        objects.change(resource_of("v1", "Pod"), CLUSTER.namespace, name, _made_ready, STATUS)


def _made_ready(pod: dict[str, object]) -> dict[str, object]:
    status = {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
    return {**pod, "status": status}


def measure(*, revisions: int, replicas: int, passes: int) -> Passes:
    """Return what so many passes cost."""
    with served(list(some(revisions=revisions, replicas=replicas))) as (door, requests):
        fleet = FleetKubernetes(door, namespace=CLUSTER.namespace, options=lambda _: CLUSTER)
        cost = cost_of(fleet.list, requests, passes)
        measured = Passes(revisions=revisions, replicas=replicas, engines=len(fleet.list()), **cost._asdict())
        fleet.close()
    return measured


@contextmanager
def served(found: Sequence[Replicas]) -> Iterator[tuple[Door, Callable[[], int]]]:
    """Serve these replicas from a process of its own; give a door to it, and what counts the requests it saw."""
    ours, theirs = Pipe()
    server = Process(target=serve, args=(theirs, found), daemon=True)
    server.start()
    try:
        yield Door(client.ApiClient(client.Configuration(host=ours.recv()))), partial(_requests, ours)
    finally:
        server.terminate()
        server.join()


class Cost(NamedTuple):
    """What passes cost, the first apart: it lists everything."""

    first_s: float
    median_s: float
    longest_s: float
    median_cpu_s: float  # of this process
    longest_cpu_s: float
    requests: int  # in all passes after the first
    memory_grown_mib: float  # of the largest resident set, over all passes after the first


def cost_of(one_pass: Callable[[], object], requests: Callable[[], int], passes: int) -> Cost:
    """Return what a pass costs, at first and in so many more."""
    first = _timed(one_pass)
    before, memory = requests(), _memory_mib()
    spent = [_timed(one_pass) for _ in range(passes)]
    return Cost(
        first_s=first.wall_s,
        median_s=round(statistics.median(each.wall_s for each in spent), 3),
        longest_s=max(each.wall_s for each in spent),
        median_cpu_s=round(statistics.median(each.cpu_s for each in spent), 3),
        longest_cpu_s=max(each.cpu_s for each in spent),
        requests=requests() - before,
        memory_grown_mib=round(_memory_mib() - memory, 1),
    )


def serve(asked: Connection, found: Sequence[Replicas]) -> None:
    """Serve these replicas; tell where, and each time one asks how many requests came."""
    objects, faults = Objects(), Faults()
    fill(objects, found)
    asked.send(ApiServer(objects, faults, logs=lambda *_: "").url)
    while True:
        asked.recv()
        asked.send(sum(call.verb != "watch" for call in faults.calls))


def _requests(server: Connection) -> int:
    """Without the three watches, which stay open from the first pass on."""
    server.send(None)
    found: int = server.recv()
    return found


class Spent(NamedTuple):
    wall_s: float
    cpu_s: float


def _timed(one_pass: Callable[[], object]) -> Spent:
    begun, cpu = time.perf_counter(), time.process_time()
    one_pass()
    return Spent(round(time.perf_counter() - begun, 3), round(time.process_time() - cpu, 3))


def _memory_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ask(measure: Callable[..., Any], words: Sequence[str] | None, **defaults: int) -> None:
    """Measure what the words of a command line ask for, each of these numbers an option, and print it."""
    parser = argparse.ArgumentParser()
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    print(json.dumps(measure(**vars(parser.parse_args(words)))._asdict(), indent=1))


def main(words: Sequence[str] | None = None) -> None:
    ask(measure, words, revisions=200, replicas=10, passes=100)


if __name__ == "__main__":
    main()
