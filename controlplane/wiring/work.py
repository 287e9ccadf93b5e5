"""Workers: studies and replays on this host's engines."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from controlplane.adapters.gateway.records_spool import SpooledRecords
from controlplane.domain.base import StudyId
from controlplane.domain.revision import Revision
from controlplane.domain.service import ServiceSpec
from controlplane.ports.fleet import Fleet
from controlplane.ports.load import LoadTester
from controlplane.settings import Settings, own_pod
from controlplane.wiring.machine import installation_clock, open_fleet, open_store
from controlplane.wiring.shared import Shared

if TYPE_CHECKING:
    from controlplane.adapters.gateway.opener import GatewayProcesses
    from controlplane.services.replays.run_replay import ReplayRunner
    from controlplane.services.studies.commit import CommitKeeper
    from controlplane.services.studies.run_study import StudyProgress, StudyRunner


def worker_identity(name: str) -> str:
    """Return what a claim carries: `up` calls its first worker worker-1 on every host that shares a store."""
    return f"{name}@{socket.gethostname()}:{os.getpid()}"


def worker_pass(settings: Settings, name: str, stop: threading.Event) -> Callable[[], bool]:
    """Return one pass of a tuner worker: a commit, the next replay, else run or help a study, until `stop` is set."""
    tester, shared = open_load_tester(settings), Shared(settings)
    replays = replay_runner(settings, name, tester, should_stop=stop.is_set, fleet=shared.fleet())
    studies = study_runner(settings, name, should_stop=stop.is_set, load_tester=tester, fleet=shared.fleet())
    commits = commit_keeper(settings)
    return lambda: commits.run_next() or replays.run_next() is not None or studies.run_next() is not None


def open_load_tester(settings: Settings) -> LoadTester:
    """Return what loads trials: this process's own generators, or pods beside the engines where that is wanted.

    Raises InvalidInput where they are to be pods and this process is none: they connect to it.
    """
    from controlplane.adapters.loadtester_locust import LoadTesterElsewhere, LocustLoadTester

    here, cluster = LocustLoadTester(), settings.cluster
    if cluster is None or cluster.load_pods is None:
        return here
    from controlplane.adapters.fleet_kubernetes.door import open_door
    from controlplane.adapters.fleet_kubernetes.load_hosts import LoadHostsKubernetes
    from controlplane.adapters.fleet_kubernetes.load_job import WorkerPod

    pod = own_pod()
    hosts = LoadHostsKubernetes(
        open_door(cluster.kubeconfig, cluster.context), WorkerPod(*pod, cluster.namespace), cluster.load_pods
    )
    hosts.release()  # what a process of this pod before this one left behind
    return LoadTesterElsewhere(hosts, needed=cluster.load_pods.needed, address=pod.address, here=here)


def open_gateways(settings: Settings) -> GatewayProcesses:
    """Return what opens the gateways of fleet checks: where pods send the load, at this pod's own address."""
    from controlplane.adapters.gateway.opener import GatewayProcesses

    loads_by_pods = settings.cluster is not None and settings.cluster.load_pods is not None
    return GatewayProcesses(host=own_pod().address) if loads_by_pods else GatewayProcesses()


def commit_keeper(settings: Settings) -> CommitKeeper:
    """Return who commits what is recommended for services whose manifests another tool applies."""
    from controlplane.adapters.manifests_git import GitManifests
    from controlplane.services.studies.commit import CommitKeeper

    return CommitKeeper(
        store=open_store(settings), open_repository=GitManifests, render=_rendered, clock=installation_clock(settings)
    )


def _rendered(spec: ServiceSpec, revision: Revision, replicas: int) -> str:
    from controlplane.adapters.fleet_kubernetes.manifests import as_yaml, manifests

    assert spec.kubernetes is not None, "its section names the repository"
    budget_s = revision.start_budget_s
    return as_yaml(manifests(spec, spec.kubernetes, revision.config, replicas=replicas, start_budget_s=budget_s))


def replay_runner(
    settings: Settings,
    name: str,
    load_tester: LoadTester,
    *,
    should_stop: Callable[[], bool],
    fleet: Fleet | None = None,
) -> ReplayRunner:
    """Return a runner of due replays on this host's engines."""
    from controlplane.services.replays.run_replay import ReplayRunner

    return ReplayRunner(
        store=open_store(settings),
        fleet=fleet or open_fleet(settings),
        load_tester=load_tester,
        records=SpooledRecords(settings.data_dir),
        clock=installation_clock(settings),
        sleep=time.sleep,
        worker_name=worker_identity(name),
        out_dir=settings.reports_dir,
        should_stop=should_stop,
    )


def help_study(settings: Settings, name: str, study_id: StudyId, *, should_stop: Callable[[], bool]) -> None:
    """Work on one study beside the worker that started it, until it is over, paused or `should_stop` says so."""
    study_runner(settings, name, should_stop=should_stop).join(study_id)


def study_runner(
    settings: Settings,
    name: str,
    *,
    should_stop: Callable[[], bool],
    on_progress: Callable[[StudyProgress], None] = lambda _: None,
    load_tester: LoadTester | None = None,
    fleet: Fleet | None = None,
) -> StudyRunner:
    """Return a runner of studies on this host's engines."""
    from controlplane.adapters.engine_adapters import EngineAdapters
    from controlplane.adapters.engine_prober import HttpProber
    from controlplane.adapters.fleet_processes.probes import emulator_lag
    from controlplane.adapters.quality_openai import OpenAiQualityProbe
    from controlplane.services.studies.run_study import StudyRunner

    store = open_store(settings)
    return StudyRunner(
        store=store,
        fleet=fleet or open_fleet(settings),
        load_tester=load_tester or open_load_tester(settings),
        gateways=open_gateways(settings),
        clock=installation_clock(settings),
        worker_name=worker_identity(name),
        host=socket.gethostname(),
        data_dir=settings.reports_dir,
        optuna_url=store.sqlalchemy_url,
        quality=OpenAiQualityProbe(),
        engine_lag=emulator_lag,
        adapters=EngineAdapters(),
        prober=HttpProber(),
        on_progress=_until(should_stop, on_progress),
    )


def _until(should_stop: Callable[[], bool], show: Callable[[StudyProgress], None]) -> Callable[[StudyProgress], None]:
    """Return `show` that lets go of the study when asked to stop: progress is told several times a second."""
    from controlplane.services.studies.trial_engine import Interrupted

    def told(progress: StudyProgress) -> None:
        if should_stop():
            raise Interrupted
        show(progress)

    return told
