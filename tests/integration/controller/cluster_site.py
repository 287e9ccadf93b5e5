"""An installation whose engines are pods of the stand-in: controller in this process, real streams, the test's clock.

Store, gateways and records are fakes; pods are processes. Real time passes only while pods start and end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from controlplane.adapters.fleet_kubernetes.door import open_door
from controlplane.adapters.fleet_kubernetes.fleet import FleetKubernetes
from controlplane.adapters.fleet_kubernetes.steps import Patience
from controlplane.domain.base import EngineId
from controlplane.domain.cluster import ClusterOptions
from controlplane.domain.engines.fleet import Engine, EngineState
from controlplane.domain.errors import Unavailable
from controlplane.domain.rollouts.rollout import ROLLOUT_FINAL, Rollout
from controlplane.services.fleet.serving import register_service
from tests.builders_serving import CHAT, a_spec, some_options
from tests.fakes.killing import Killed, Killer, Moment
from tests.fakes.kubernetes.cluster import StandIn
from tests.fakes.kubernetes.kubelet import Kubelet
from tests.fakes.traffic_router import FakeTrafficRouter
from tests.integration.controller.site import Site

GPUS_PER_NODE = 4
TOKENS = 12
REQUESTS = 80
_PATIENCE_S = 240.0
_NAMESPACE = "default"
IMAGE = f"registry.example/fleetune/engine@sha256:{0:064}"
_OPTIONS = ClusterOptions(namespace=_NAMESPACE, image=IMAGE, drain_s=60)
_KINDS = ("Deployment", "Service", "PodDisruptionBudget", "Pod")


@dataclass
class Streams:
    """One open stream per engine at a time; `cut` are the engines whose stream ended too early."""

    cut: list[EngineId] = field(default_factory=list)
    whole: int = 0
    _open: dict[EngineId, threading.Thread] = field(default_factory=dict)

    def begin(self, engine_id: EngineId, url: str) -> None:
        """Open a stream unless one is open, and return once its first token is there."""
        if (running := self._open.get(engine_id)) is not None and running.is_alive():
            return
        begun = threading.Event()
        self._open[engine_id] = threading.Thread(target=self._read, args=(engine_id, url, begun), daemon=True)
        self._open[engine_id].start()
        assert begun.wait(_PATIENCE_S)

    def end(self) -> None:
        for thread in self._open.values():
            thread.join()

    def _read(self, engine_id: EngineId, url: str, begun: threading.Event) -> None:
        asked, text = {"model": "llama-8b", "prompt": "a", "max_tokens": TOKENS, "stream": True}, ""
        url, options = f"{url}/v1/completions", {"timeout": _PATIENCE_S, "trust_env": False, "verify": False}
        with suppress(httpx.HTTPError), httpx.stream("POST", url, json=asked, **options) as answer:  # type: ignore[arg-type]
            for piece in answer.iter_text():
                text += piece
                begun.set()
        begun.set()
        if text.count('"a"') == TOKENS and text.endswith("data: [DONE]\n\n"):
            self.whole += 1
        else:
            self.cut.append(engine_id)


class ClusterSite:
    """Two nodes, two gateways, one service. `killed` are engines whose streams may be cut, `failed` those that did."""

    def __init__(self, folder: Path) -> None:
        self.cluster = StandIn(folder)
        self.streams, self.killed, self.failed = Streams(), set[EngineId](), set[EngineId]()
        self._nodes, self._is_quiet = 0, False
        self.problems: Sequence[str] = ()  # of the last pass
        self.add_node()
        self.add_node()
        self.site = Site(gpus=2 * GPUS_PER_NODE, router=FakeTrafficRouter(("gw-1", "gw-2")))
        self.fleet = self._new_fleet()
        self.restart()
        options = some_options(50, 100, miss_ratio_margin=0.4, error_ratio_margin=0.4)
        register_service(self.site.store, a_spec(rollout=options), actor="cli", now=self.site.clock())
        self.passes_until(lambda: bool(self.ready()) and bool(self.site.weights))

    def close(self) -> None:
        self.streams.end()
        self.fleet.close()
        self.cluster.server.is_out = False
        self.cluster.stop()

    def add_node(self) -> Kubelet:
        self._nodes += 1
        return self.cluster.add_node(f"gpu-{self._nodes}", gpus=GPUS_PER_NODE)

    def restart(self) -> None:
        """Replace the controller and all that it knows of the cluster."""
        self.fleet.close()
        self.fleet = self._new_fleet()
        self.site.restart(fleet=self.fleet)

    def kill_within_a_pass(self, *, at: int) -> None:
        """Let the controller die at its `at`-th call to the outside, after the call took effect."""
        killer = Killer(at=at, moment=Moment.AFTER)
        ports = {"store": self.site.store, "fleet": self.fleet, "router": self.site.router}
        self.site.restart(**{name: killer.wrap(port) for name, port in ports.items()})  # type: ignore[arg-type]
        with pytest.raises(Killed):
            self.one_pass()
        self.restart()

    def one_pass(self) -> None:
        """Let half a second go by, with a pass, live records and streams; a pass may find no API server."""
        self.site.clock.go_on(0.5)
        with suppress(Unavailable):
            self.problems = self.site.controller.run_pass()
            self.failed |= {e.spec.engine_id for e in self.fleet.list() if e.state is EngineState.FAILED}
        if self.site.router.tables["gw-1"] is not None:
            self.site.traffic(REQUESTS if self._is_split() else 0)
            self._stream()
        time.sleep(0.02)  # pods need real time

    def passes_quietly_until(self, holds: Callable[[], bool]) -> None:
        """As `passes_until`, without streams of its own."""
        self._is_quiet = True
        self.passes_until(holds)
        self._is_quiet = False

    def passes_until(self, holds: Callable[[], bool]) -> None:
        give_up_s = time.monotonic() + _PATIENCE_S
        while not holds():
            assert time.monotonic() < give_up_s, [str(engine) for engine in self.fleet.list()]
            self.one_pass()

    def ready(self, revision: str | None = None) -> list[Engine]:
        found = [each for each in self.fleet.list() if each.state is EngineState.READY and each.answers]
        return [each for each in found if revision is None or str(each.spec.owner).endswith(f"/{revision}")]

    def alive(self) -> set[EngineId]:
        """Return the engines that are not over."""
        return {each.spec.engine_id for each in self.fleet.list() if not each.state.is_over}

    def roll_out(self, at_boundary: Callable[[int], None]) -> Rollout:
        """Roll out a better revision; `at_boundary` acts whenever the rollout has come to another step or state."""
        seen: list[object] = []
        self.site.roll_out(replicas=1)
        while True:
            rollout = self.site.rollout
            if (place := (rollout.state, rollout.step_index)) not in seen:
                seen.append(place)
                at_boundary(len(seen))
            if rollout.state in ROLLOUT_FINAL:
                return self.site.rollout
            before = place
            self.passes_until(lambda b=before: (self.site.rollout.state, self.site.rollout.step_index) != b)  # type: ignore[misc]

    def left(self) -> dict[str, int]:
        """Return how many objects of each kind are in the namespace."""
        kinds = [value["kind"] for _, value in self.cluster.objects.everything()]
        return {kind: kinds.count(kind) for kind in _KINDS}

    def _is_split(self) -> bool:
        """While an arm has no replica the other gets its share, and the judge would refuse to compare the two."""
        found = self.site.store.list_rollouts(CHAT)
        weight = found[0].value.weight_percent if found and found[0].value.state not in ROLLOUT_FINAL else 100
        return weight in (0, 100) or len(self.site.weights) == 2

    def _stream(self) -> None:
        """Ask every engine that a gateway has in its table, as the gateway would."""
        if self._is_quiet:
            return
        for revision in self.site.table.services[0].revisions:
            for backend in revision.backends:
                if EngineId(backend.engine_id) not in self.killed:
                    self.streams.begin(EngineId(backend.engine_id), backend.url)

    def _new_fleet(self) -> FleetKubernetes:
        return FleetKubernetes(
            open_door(self.cluster.kubeconfig(_NAMESPACE)),
            namespace=_NAMESPACE,
            options=lambda _: _OPTIONS,
            clock=self.site.clock,
            steady=self.site.clock.monotonic,
            patience=Patience(place_s=30, image_s=10),
        )
