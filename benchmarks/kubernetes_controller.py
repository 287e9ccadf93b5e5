"""A controller's whole pass over a cluster: `python -m benchmarks.kubernetes_controller [--services 200]`.

So many services, each with one revision of ten ready replicas, in SQLite and in the stand-in's API server, a process of
its own, without nodes or processes. Measured is `Controller.run_pass`: its seconds, the requests the server saw, and
the memory of this process before and after. Gateways and records are fakes in memory; nobody asks anything, so nothing
is judged. Engines are first started on a fleet in memory, which says what the controller wants. Nothing is random.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.kubernetes_passes import CLUSTER, Replicas, ask, cost_of, served
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
        with served(_as_pods(site.fleet.list())) as (door, requests):
            fleet = FleetKubernetes(door, namespace=CLUSTER.namespace, options=lambda _: CLUSTER, clock=site.clock)
            site.restart(fleet=fleet)
            cost = cost_of(partial(_one_pass, site), requests, passes)
            engines, problems = len(fleet.list()), site.controller.run_pass()
            fleet.close()
    return Passes(services=services, engines=engines, **cost._asdict(), problems=problems)


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


def _one_pass(site: Site) -> None:
    site.clock.go_on(1)
    site.controller.run_pass()


def main(words: Sequence[str] | None = None) -> None:
    ask(measure, words, services=200, replicas=10, passes=30)


if __name__ == "__main__":
    main()
