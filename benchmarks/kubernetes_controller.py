"""A controller's whole pass over a cluster: `python -m benchmarks.kubernetes_controller [--services 200]`.

So many services, each with one revision of ten ready replicas, in SQLite and in the stand-in's API server, a process of
its own, without nodes or processes. Measured is `Controller.run_pass`: its seconds, the requests the server saw, and
the memory of this process before and after. Gateways and records are fakes in memory; nobody asks anything, so nothing
is judged. Engines are first started on a fleet in memory, which says what the controller wants. Nothing is random.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from multiprocessing import Pipe, Process
from pathlib import Path
from typing import NamedTuple

from kubernetes import client

from benchmarks.kubernetes_passes import CLUSTER, Replicas, memory_mib, requests, serve
from controlplane.adapters.fleet_kubernetes.door import Door
from controlplane.adapters.fleet_kubernetes.fleet import FleetKubernetes
from controlplane.adapters.fleet_kubernetes.ledger import Entry
from controlplane.adapters.store_sql.store import open_store
from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import Engine, EngineState
from controlplane.domain.service import ModelSpec
from controlplane.services.fleet.serving import register_service
from tests.builders_serving import a_spec
from tests.integration.controller.site import Site

_MOST_PASSES = 100


class Passes(NamedTuple):
    services: int
    engines: int
    first_s: float  # of a controller that just started: it lists everything
    median_s: float
    longest_s: float
    median_cpu_s: float  # of this process
    longest_cpu_s: float
    requests: int  # in all passes after the first
    memory_grown_mib: float  # of the largest resident set, over all passes after the first
    problems: Sequence[str]  # that the last pass told


def measure(*, services: int, replicas: int, passes: int) -> Passes:
    """Return what so many passes cost."""
    with tempfile.TemporaryDirectory() as folder:
        site = _serving(Path(folder), services=services, replicas=replicas)
        ours, theirs = Pipe()
        server = Process(target=serve, args=(theirs, _as_pods(site.fleet.list())), daemon=True)
        server.start()
        door = Door(client.ApiClient(client.Configuration(host=ours.recv())))
        fleet = FleetKubernetes(door, namespace=CLUSTER.namespace, options=lambda _: CLUSTER, clock=site.clock)
        site.restart(fleet=fleet)
        first_s, _ = _timed(site)
        before, memory = requests(ours), memory_mib()
        spent = [_timed(site) for _ in range(passes)]
        found = Passes(
            services=services,
            engines=len(fleet.list()),
            first_s=first_s,
            median_s=round(statistics.median(wall for wall, _ in spent), 3),
            longest_s=max(wall for wall, _ in spent),
            median_cpu_s=round(statistics.median(cpu for _, cpu in spent), 3),
            longest_cpu_s=max(cpu for _, cpu in spent),
            requests=requests(ours) - before,
            memory_grown_mib=round(memory_mib() - memory, 1),
            problems=site.controller.run_pass(),
        )
        fleet.close()
        server.terminate()
        server.join()
    return found


def _serving(folder: Path, *, services: int, replicas: int) -> Site:
    """Return an installation whose services all serve, on engines in memory."""
    site = Site(gpus=services * replicas, store=open_store(f"sqlite:///{folder}/store.db"))
    for number in range(services):
        model = ModelSpec(name=f"llama-8b-{number}", path="llama-8b")
        spec = a_spec(name=f"chat-{number}", model=model, initial_replicas=replicas)
        register_service(site.store, spec, actor="benchmark", now=site.clock())
    for _ in range(_MOST_PASSES):
        site.passes(1)
        if [each.state for each in site.fleet.list()] == [EngineState.READY] * services * replicas:
            return site
    raise AssertionError(f"not ready: {site.controller.run_pass()}")


def _as_pods(engines: Sequence[Engine]) -> Sequence[Replicas]:
    """Return what a fleet in memory runs as a cluster would have it."""
    by_owner: dict[str, list[Engine]] = {}
    for each in engines:
        by_owner.setdefault(str(each.spec.owner), []).append(each)
    return [(found[0].spec, _ledger(found)) for found in by_owner.values()]


def _ledger(engines: Sequence[Engine]) -> Mapping[EngineId, Entry]:
    return {
        each.spec.engine_id: Entry(
            started_at=each.started_at, ready_at=each.ready_at, pod=str(each.spec.engine_id), node="n-1"
        )
        for each in engines
    }


def _timed(site: Site) -> tuple[float, float]:
    site.clock.go_on(1)
    begun, cpu = time.perf_counter(), time.process_time()
    site.controller.run_pass()
    return round(time.perf_counter() - begun, 3), round(time.process_time() - cpu, 3)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    for name, default in (("services", 200), ("replicas", 10), ("passes", 30)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args(words)
    found = measure(services=given.services, replicas=given.replicas, passes=given.passes)
    print(json.dumps(found._asdict(), indent=1))


if __name__ == "__main__":
    main()
