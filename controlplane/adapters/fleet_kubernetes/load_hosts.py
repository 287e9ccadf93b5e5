"""Hosts of load generators as the pods of one Job, which is this worker's and goes with its pod."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from controlplane.adapters.fleet_kubernetes.door import Door, Place
from controlplane.adapters.fleet_kubernetes.load_job import WORKER, WorkerPod, job_name, load_job
from controlplane.adapters.fleet_kubernetes.sight import PodSight, sight_of, what_is_short
from controlplane.domain.errors import FleetuneError, Unavailable
from controlplane.domain.load_pods import LoadPods

_PATIENCE_S = 300.0  # a node may have to be made for them
_LOOK_S = 0.5
_log = logging.getLogger(__name__)


class LoadHostsKubernetes:
    """Generators in the namespace of a worker. What a worker of this pod left behind is ended by the first call."""

    def __init__(
        self,
        door: Door,
        worker: WorkerPod,
        pods: LoadPods,
        *,
        sleep: Callable[[float], None] = time.sleep,
        steady: Callable[[], float] = time.monotonic,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._door, self._worker, self._options = door, worker, pods
        self._sleep, self._steady, self._patience_s = sleep, steady, patience_s
        self._jobs_at = Place("apis/batch/v1", "jobs", worker.namespace)
        self._pods_at = Place("api/v1", "pods", worker.namespace)

    def hold(self, processes: int, *, port: int, check: Callable[[], None]) -> None:
        """See `ports.GeneratorHosts.hold`. Whatever the cluster refuses says nothing of the engine that is tried."""
        try:
            self._door.delete(self._jobs_at, job_name(self._worker))
            self._door.apply(self._jobs_at, load_job(self._worker, self._options, processes=processes, port=port))
            self._await(processes, port, check)
        except FleetuneError as error:
            raise Unavailable("no pods to send the load", why=str(error)) from error

    def release(self) -> None:
        """See `ports.GeneratorHosts.release`. What cannot be ended now ends by itself: its master is gone."""
        try:
            self._door.delete(self._jobs_at, job_name(self._worker))
        except FleetuneError as error:
            _log.warning("generators are left to end by themselves: %s", error)

    def _await(self, processes: int, port: int, check: Callable[[], None]) -> None:
        give_up_s = self._steady() + self._patience_s
        while True:
            mine = self._mine(port)
            running = sum(sight.is_ready and not sight.is_over for sight in mine)
            if running >= processes:
                return
            check()
            if self._steady() >= give_up_s:
                missing = f"{running} of {processes} pods run within {self._patience_s:g} s"
                raise Unavailable(missing, why=_why(mine))
            self._sleep(_LOOK_S)

    def _mine(self, port: int) -> Sequence[PodSight]:
        """Return the pods of the Job as it is now; those of the one before it may still be going."""
        found = self._door.list(self._pods_at, labelSelector=f"{WORKER}={job_name(self._worker)}")["items"]
        mine = [pod for pod in found if any(str(port) in each.get("command", []) for each in pod["spec"]["containers"])]
        return [sight for sight in map(sight_of, mine) if sight.deleting_grace_s is None]


def _why(pods: Sequence[PodSight]) -> str:
    """Return what holds the first of them up."""
    for sight in pods:
        if sight.is_over:
            return f"pod {sight.name} ended with {sight.exit_code}: {sight.exit_message or 'it said nothing'}"
        if sight.unplaced:
            return f"{what_is_short(sight.unplaced)}: {sight.unplaced}"
        if not sight.is_ready:
            return sight.waiting_for or f"pod {sight.name} on node {sight.node} is not ready"
    return "the cluster made no pod for the Job: a quota or a policy may refuse it"
