"""An installation on a cluster whose controllers, gateways and workers are processes, to be killed as such.

The API server is the stand-in, its pods are processes of a stub; store, lease, gateways, records and streams are real.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import httpx

from controlplane import settings as installation
from controlplane.cli.installation.programs import process_command, programs
from controlplane.domain.rollouts.rollout import ROLLOUT_FINAL, Rollout
from controlplane.domain.service import ServiceSpec
from controlplane.host.clock import utc_now
from controlplane.host.ports import free_port
from controlplane.ports.store import Store
from controlplane.services.fleet.serving import register_service
from controlplane.services.rollouts.manage import start_rollout
from controlplane.settings import ClusterAccess, Settings
from controlplane.wiring import machine
from tests.builders_serving import a_spec, some_options
from tests.fakes.kubernetes.cluster import StandIn
from tests.fakes.kubernetes.pod_life import STUB
from tests.fakes.kubernetes.schemas import resource_of

NAMESPACE = "inference"
LEASE = resource_of("coordination.k8s.io/v1", "Lease")
KINDS = ("Deployment", "Service", "PodDisruptionBudget", "Pod")
_LEASE_NAME = "fleetune-controller"
_PATIENCE_S = 240.0
_IMAGE = f"registry.example/fleetune/engine@sha256:{0:064}"


def described() -> ServiceSpec:
    """A service whose canary is judged at once at 50 and at 100 %, by what users ask alone."""
    quick = {"min_samples": 10, "min_s": 0, "max_s": 200, "load_rps": 0}
    steps = [{"weight_percent": weight, **quick} for weight in (50, 100)]
    alone = {"match_load": False, "on_unproven_load": "proceed", "on_other_answers": "proceed"}
    options = some_options(miss_ratio_margin=0.4, error_ratio_margin=0.4, steps=steps, **alone)
    cluster = {"image": _IMAGE, "namespace": NAMESPACE}
    return a_spec(rollout=options, kubernetes=cluster, gateway={"connect_timeout_s": 30})


class ProcessSite:
    """One node of four GPUs and one service; controllers, gateways and workers are started by the tests."""

    def __init__(self, folder: Path, spec: ServiceSpec | None = None, *, engine: Sequence[str] = STUB) -> None:
        (folder / "cluster").mkdir()
        self.cluster = StandIn(folder / "cluster")
        self.cluster.add_namespace(NAMESPACE)
        self.cluster.add_node("gpu-1", gpus=4, engine=engine)
        access = ClusterAccess(namespace=NAMESPACE, kubeconfig=self.cluster.kubeconfig(NAMESPACE))
        self.settings = Settings(data_dir=folder / "data", cluster=access)
        installation.save(self.settings)
        self.settings.admin_token_file.write_text("adm1n")
        self.store: Store = machine.open_store(self.settings)
        self.spec = spec or described()
        register_service(self.store, self.spec, actor="test", now=utc_now())
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ports: dict[str, tuple[int, int]] = {}

    def close(self) -> None:
        for each in self._processes:
            each.kill()
            each.wait()
        machine.stop_all_engines(self.settings)
        self.cluster.stop()

    def start_controller(self) -> subprocess.Popen[bytes]:
        return self._started(process_command(self.settings, "controller"))

    def start_worker(self, name: str) -> subprocess.Popen[bytes]:
        return self._started(process_command(self.settings, "worker", f"--name={name}", name=name))

    def start_gateway(self, name: str) -> subprocess.Popen[bytes]:
        """Start a gateway, on the ports it had before if it was killed."""
        port, admin_port = self._ports.setdefault(name, (free_port(), free_port()))
        of_its_own = self.settings.evolve(gateway_port=port, gateway_admin_port=admin_port)
        command = next(each for each in programs(of_its_own, dashboard=False) if each.name == "gateway").command
        return self._started([f"--name={name}" if word.startswith("--name=") else word for word in command])

    def url(self, gateway: str) -> str:
        return f"http://127.0.0.1:{self._ports[gateway][0]}"

    def is_ready(self, gateway: str) -> bool:
        """Say whether a gateway has a table with a ready replica."""
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url(gateway)}/ready", trust_env=False, verify=False, timeout=60).is_success
        return False

    def roll_out(self, at_boundary: Callable[[int], None]) -> Rollout:
        """Roll out other flags to its end; `at_boundary` is told each state and step of it once, numbered from 1."""
        better, seen = self.spec.baseline.with_flags({"max-num-seqs": 64}), list[object]()
        start_rollout(self.store, service=self.spec.service, config=better, replicas=1, actor="test", now=utc_now())
        while True:
            self.until(lambda: _place(self.rollout) not in seen)
            seen.append(_place(self.rollout))
            at_boundary(len(seen))
            if self.rollout.state in ROLLOUT_FINAL:
                return self.rollout

    @property
    def rollout(self) -> Rollout:
        return self.store.list_rollouts(self.spec.service)[0].value

    @property
    def leader(self) -> str:
        """Who holds the lease, "" when nobody does."""
        found = self.cluster.objects.list(LEASE, NAMESPACE)
        return str(found[0]["spec"].get("holderIdentity", "")) if found else ""

    def end_lease(self) -> None:
        """Let the lease of one that was killed be over at once: that it takes 15 s is seen in another test."""
        self.cluster.objects.delete(LEASE, NAMESPACE, _LEASE_NAME)

    def left(self) -> dict[str, int]:
        """Return how many objects of each kind there are."""
        kinds = [value["kind"] for _, value in self.cluster.objects.everything()]
        return {kind: kinds.count(kind) for kind in KINDS}

    def until(self, holds: Callable[[], bool], *, within_s: float = _PATIENCE_S) -> None:
        give_up_s = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < give_up_s, [str(row.value) for row in self.store.list_rollouts(self.spec.service)]
            time.sleep(0.05)

    def _started(self, command: list[str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self._processes.append(process)
        return process


def kill(process: subprocess.Popen[bytes]) -> None:
    """As the kernel kills: nothing is given back, nothing is written."""
    process.send_signal(signal.SIGKILL)
    process.wait()


def _place(rollout: Rollout) -> object:
    return rollout.state, rollout.step_index
