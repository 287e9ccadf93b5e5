"""Which replica goes when there is one too many: the one with the least to finish, and the cluster is told as much."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from controlplane.adapters import engine_counts
from controlplane.domain.base import EngineId
from controlplane.domain.engines.fleet import Engine, EngineState
from controlplane.services.fleet.serving import scale_service
from tests.builders_serving import CHAT
from tests.fakes.kubernetes.schemas import resource_of
from tests.integration.controller.cluster_site import ClusterSite
from tests.integration.controller.site import Site

COST = "controller.kubernetes.io/pod-deletion-cost"


def test_the_busiest_replicas_stay_and_among_equals_the_oldest() -> None:
    site = Site()
    site.serving(initial_replicas=3)
    first, second, third = (engine.spec.engine_id for engine in site.fleet.list())
    site.fleet.occupy(third, 2)
    site.fleet.occupy(first, 1)
    scale_service(site.store, CHAT, replicas=2, actor="ops", now=site.clock())
    site.passes(3)
    assert {engine.spec.engine_id for engine in site.engines()} == {first, third}
    site.fleet.release(first)
    site.fleet.release(third)
    scale_service(site.store, CHAT, replicas=1, actor="ops", now=site.clock())
    site.passes(3)
    assert [engine.spec.engine_id for engine in site.engines()] == [first]
    assert second not in {engine.spec.engine_id for engine in site.fleet.list()}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ClusterSite]:
    made = ClusterSite(tmp_path)
    yield made
    made.close()


def test_on_a_cluster_the_least_loaded_pod_goes_and_the_others_cost_what_they_have_in_flight(
    rig: ClusterSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_counts, "_METRICS_TIMEOUT_S", 240.0)  # one that does not say costs nothing
    scale_service(rig.site.store, CHAT, replicas=3, actor="ops", now=rig.site.clock())
    rig.passes_until(lambda: len(rig.ready()) == 3)
    rig.streams.end()
    first, second, third = sorted(rig.ready(), key=lambda engine: engine.started_at)
    over = threading.Event()
    clients = [_open(third, over), _open(third, over), _open(first, over)]
    rig.passes_quietly_until(lambda: [rig.fleet.in_flight(each.spec.engine_id) for each in (first, third)] == [1, 2])
    scale_service(rig.site.store, CHAT, replicas=2, actor="ops", now=rig.site.clock())
    rig.passes_quietly_until(lambda: _gone(rig, second.spec.engine_id))
    assert {each.pod for each in rig.ready()} == {first.pod, third.pod}
    assert costs(rig) == {first.pod: "1", third.pod: "2"}
    over.set()
    for client in clients:
        client.join()


def _gone(rig: ClusterSite, engine_id: EngineId) -> bool:
    return engine_id not in {each.spec.engine_id for each in rig.fleet.list() if each.state is not EngineState.STOPPED}


def costs(rig: ClusterSite) -> dict[str | None, str]:
    pods = rig.cluster.objects.list(resource_of("v1", "Pod"), "default")
    return {pod["metadata"]["name"]: pod["metadata"].get("annotations", {}).get(COST, "0") for pod in pods}


def _open(engine: Engine, over: threading.Event) -> threading.Thread:
    """Hold one long stream open until told that it is over."""

    def read() -> None:
        asked = {"model": "llama-8b", "prompt": "a", "max_tokens": 100_000, "stream": True}
        with httpx.stream(
            "POST", f"{engine.url}/v1/completions", json=asked, trust_env=False, verify=False, timeout=240
        ) as answer:
            for _ in answer.iter_bytes():
                if over.is_set():
                    return

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread
