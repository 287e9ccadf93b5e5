"""The whole loop on a cluster: trials as pods within a quota, the winner promoted under live streams, a bad one not.

The API server is the stand-in; its pods are real processes (a stub of an engine), the gateway is one, and every request
is real. What trials measure is the twin's: load generators and their processors are no part of this.
"""

from __future__ import annotations

import gc
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest

from controlplane import settings as installation
from controlplane.adapters.fleet_kubernetes.fleet import FleetKubernetes
from controlplane.cli.installation.programs import programs
from controlplane.domain.errors import FleetuneError
from controlplane.domain.rollouts.rollout import ROLLOUT_FINAL, Rollout, RolloutState
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import Study, StudyState
from controlplane.host.clock import utc_now
from controlplane.host.ports import free_port
from controlplane.ports.store import Store
from controlplane.services.fleet.serving import register_service
from controlplane.services.rollouts.manage import start_rollout
from controlplane.services.studies.manage import create_study
from controlplane.services.studies.run_study import StudyRunner
from controlplane.settings import ClusterAccess, Settings
from controlplane.wiring import control, machine
from controlplane.wiring.shared import Shared
from tests.fakes.fleet import FakeClock
from tests.fakes.gateways import FakeGateways
from tests.fakes.kubernetes.cluster import StandIn
from tests.fakes.kubernetes.schemas import Object, resource_of
from tests.fakes.kubernetes.writes import Writer
from tests.fakes.twin_load import TwinLoadTester
from tests.integration.controller.streams import Streams

NAMESPACE, TRIALS = "inference", "fleetune-trials"
LABELS = {"nvidia.com/gpu.product": "NVIDIA-H200"}
POD = resource_of("v1", "Pod")
RATE_RPS = 55
LEAST_RPS = 50.0
PATIENCE_S = 240.0
STEPS = [{"weight_percent": w, "min_samples": 10, "min_s": 0, "max_s": 200, "load_rps": 0} for w in (5, 20, 100)]

LIMITS = (("ttft_ms", 2000), ("tpot_ms", 300))

SPEC = ServiceSpec.model_validate(
    {
        "name": "chat",
        "model": {"name": "llama-8b", "path": "llama-8b"},
        # Two sequences at once are far too few: any study must find better.
        "engine": {"kind": "emulator", "version": "0.26", "flags": {"max-model-len": 8192, "max-num-seqs": 2}},
        "gpus": {"type": "H200", "count": 4, "price_usd_per_gpu_hour": 4},
        "workload": {"kind": "trace", "trace": "azure-llm-2023/conv"},
        "slos": {
            "latency": [{"metric": m, "percentile": 90, "limit_ms": limit} for m, limit in LIMITS],
            "max_error_ratio": 0.02,
            "target_qps": 4,
        },
        "tuning": {
            "space": {"max-num-seqs": {"choices": [2, 64]}},
            "budget": {"engine_starts": 5},
            "levels": {"min_s": 10, "max_s": 20, "warmup_s": 0, "precision": 0.4},
        },
        "rollout": {
            "steps": STEPS,
            "miss_ratio_margin": 0.4,
            "error_ratio_margin": 0.4,
            "match_load": False,
            "on_unproven_load": "proceed",
            "on_other_answers": "proceed",
        },
        "gateway": {"connect_timeout_s": 30},  # a busy machine is no broken engine
        "initial_replicas": 1,
        "kubernetes": {
            "image": f"registry.example/fleetune/engine@sha256:{0:064}",
            "namespace": NAMESPACE,
            "node_selector": LABELS,
            "priority_class": "fleetune-serving",
            "trial_priority_class": TRIALS,
        },
    }
)


class WorkersClock(FakeClock):
    """Goes on by what the twin measures, and by itself: a worker whose beats stand still is lost to the controller."""

    def __init__(self) -> None:
        super().__init__(utc_now())
        self._began_s = time.monotonic()

    def __call__(self) -> datetime:
        return self.now + timedelta(seconds=time.monotonic() - self._began_s)


class Site:
    """An installation whose engines are pods: controller and worker in this process, the gateway in one of its own."""

    def __init__(self, cluster: StandIn, folder: Path) -> None:
        self.cluster = cluster
        access = ClusterAccess(namespace=NAMESPACE, kubeconfig=cluster.kubeconfig(NAMESPACE))
        ports = {"gateway_port": free_port(), "gateway_admin_port": free_port()}
        self.settings = Settings.model_validate({"data_dir": folder, "cluster": access, **ports})
        installation.save(self.settings)
        self.settings.admin_token_file.write_text("adm1n")
        self.store: Store = machine.open_store(self.settings)
        self.fleet = machine.open_fleet(self.settings)
        self.most_trial_gpus = 0
        register_service(self.store, SPEC, actor="test", now=utc_now())

    def close(self) -> None:
        assert isinstance(self.fleet, FleetKubernetes)
        self.fleet.close()

    def until(self, holds: Callable[[], bool]) -> None:
        give_up_s = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < give_up_s, [row.value for row in self.store.list_rollouts(SPEC.service)]
            time.sleep(0.05)

    def until_ready(self) -> None:
        self.until(lambda: [engine.ready_at is not None for engine in self.fleet.list()] == [True])
        self.until(lambda: is_ready(self.settings.gateway_url))

    def tune(self) -> Study:
        """Run a study that is to be applied to its end; its trials are pods, what they measure is the twin's."""
        clock, gateways = WorkersClock(), FakeGateways()
        runner = StudyRunner(
            store=self.store,
            fleet=self.fleet,
            load_tester=TwinLoadTester(self.fleet, clock, gpu="H200", gateways=gateways),
            gateways=gateways,
            clock=clock,
            worker_name="w1",
            data_dir=self.settings.reports_dir,
            optuna_url=f"sqlite:///{self.settings.data_dir}/optuna.db",
            sleep=lambda _: self._look_at_trials(),
        )
        create_study(self.store, service=SPEC.service, actor="test", now=utc_now(), apply_when_done=True)
        found = runner.run_next()
        assert found is not None
        return found

    def rollout(self) -> Rollout:
        """Return the newest rollout once it is over."""
        self.until(lambda: any(r.value.state in ROLLOUT_FINAL for r in self.store.list_rollouts(SPEC.service)[:1]))
        return self.store.list_rollouts(SPEC.service)[0].value

    def pods(self) -> list[Object]:
        return self.cluster.objects.list(POD, NAMESPACE)

    def _look_at_trials(self) -> None:
        time.sleep(0.05)
        trials = [pod for pod in self.pods() if pod["spec"].get("priorityClassName") == TRIALS]
        self.most_trial_gpus = max(self.most_trial_gpus, len(trials))


@contextmanager
def controlling(settings: Settings) -> Iterator[None]:
    shared, stopping = Shared(settings), threading.Event()
    one_pass = control.controller_pass(settings, shared, control.record_feed(settings))

    def run() -> None:
        while not stopping.wait(0.1):
            with suppress(FleetuneError):
                one_pass()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
        shared.close()


@contextmanager
def serving(settings: Settings) -> Iterator[None]:
    program = next(each for each in programs(settings, dashboard=False) if each.name == "gateway")
    with subprocess.Popen(program.command, env=program.env, stdout=subprocess.DEVNULL) as gateway:
        try:
            yield
        finally:
            gateway.terminate()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    cluster = StandIn(tmp_path_factory.mktemp("cluster"))
    cluster.add_namespace(NAMESPACE)
    cluster.add_node("gpu-1", gpus=4, labels=LABELS)
    for name, value in (("fleetune-serving", 1000), (TRIALS, 0)):
        make(
            cluster,
            {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value},
        )
    trials = {"scopeName": "PriorityClass", "operator": "In", "values": [TRIALS]}
    quota: Object = {"hard": {"requests.nvidia.com/gpu": "1"}, "scopeSelector": {"matchExpressions": [trials]}}
    make(cluster, {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "trials"}, "spec": quota})
    made = Site(cluster, tmp_path_factory.mktemp("data"))
    with serving(made.settings), controlling(made.settings):
        made.until_ready()
        yield made
    machine.stop_all_engines(made.settings)
    made.close()
    cluster.stop()
    with warnings.catch_warnings():  # connections that a process of its own would have ended with
        warnings.simplefilter("ignore", ResourceWarning)
        del made
        gc.collect()


def is_ready(gateway_url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{gateway_url}/ready", trust_env=False, verify=False, timeout=240).is_success
    return False


def make(cluster: StandIn, value: Object) -> None:
    resource = resource_of(value["apiVersion"], value["kind"])
    cluster.objects.create(resource, NAMESPACE if resource.namespaced else "", value, Writer(strict=True))


@pytest.fixture
def streams(site: Site) -> Iterator[Streams]:
    running = Streams(site.settings.gateway_url, rate_rps=RATE_RPS)
    yield running
    running.stop()


def test_a_study_of_pods_finds_better_and_its_winner_is_promoted_without_a_stream_lost(
    site: Site, streams: Streams
) -> None:
    study = site.tune()
    assert (study.state, study.recommendation is not None) == (StudyState.DONE, True), study
    assert site.most_trial_gpus == 1  # the quota's
    rollout = site.rollout()
    assert rollout.state is RolloutState.PROMOTED, rollout
    assert [step.analysis and step.analysis.verdict for step in rollout.steps] == ["pass"] * 3
    ends = streams.stop()
    assert (ends["failed"], ends["cut"]) == (0, 0), ends
    assert ends["whole"] > 0
    assert streams.rate_rps >= LEAST_RPS
    site.until(lambda: {engine.spec.config.flags["max-num-seqs"] for engine in site.fleet.list()} == {64})


def test_a_bad_canary_is_rolled_back_without_a_stream_lost(site: Site, streams: Streams) -> None:
    service = site.store.get_service(SPEC.service).value
    quickly = SPEC.rollout.evolve(steps=SPEC.rollout.steps[1:])  # at 5 % it takes half a minute to be certain of harm
    bad = SPEC.baseline.with_flags({"max-num-seqs": 8, "emulator-fault": "slow-factor=30"})
    start_rollout(
        site.store, service=SPEC.service, config=bad, replicas=1, options=quickly, actor="test", now=utc_now()
    )
    rollout = site.rollout()
    assert rollout.state is RolloutState.ABORTED, rollout
    assert site.store.get_service(SPEC.service).value.stable == service.stable
    ends = streams.stop()
    assert (ends["failed"], ends["cut"]) == (0, 0), ends
    assert streams.rate_rps >= LEAST_RPS
    site.until(lambda: len(site.pods()) == service.stable_replicas)
