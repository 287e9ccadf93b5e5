"""How an engine moves on: its ledger entry, the pod as seen, and the time give the next entry. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from controlplane.adapters.fleet_kubernetes.ledger import Entry, Ledger
from controlplane.adapters.fleet_kubernetes.sight import PodSight, what_is_short
from controlplane.domain.base import EngineId
from controlplane.domain.engines.driver import LogReading
from controlplane.domain.engines.engine_failures import diagnose
from controlplane.domain.engines.start_failure import StartFailure

_NEVER_PULLED = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_NOT_PULLED = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError", "SignatureValidationFailed"}
)
_NOT_MADE = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


class Patience(NamedTuple):
    """How long what a cluster may mend by itself is waited for: a place (a node may be on its way), an image that
    cannot be pulled, and a container that is not there for no reason that is told: a large image, a volume.
    """

    place_s: float = 600.0
    image_s: float = 180.0
    container_s: float = 1800.0


class Around(NamedTuple):
    """What is known beside an engine's own pod. `tail` reads the end of a log, which costs a request."""

    now: datetime
    patience: Patience
    start_timeout_s: float
    lost_nodes: frozenset[str]  # known, and not there
    ready_nodes: frozenset[str]
    refused_pods: str  # why the cluster makes no pod for the Deployment: a quota, a right
    log: LogReading
    tail: Callable[[PodSight], str]
    workers: Sequence[PodSight] = ()  # the other parts of an engine that spans nodes


class Fault(NamedTuple):
    failure: StartFailure
    detail: str


def moved_on(ledger: Ledger, pods: Mapping[str, PodSight], around: Around) -> Ledger:
    """Return the ledger after one look: pods given to engines that have none, and each engine a step further."""
    bound = _bound(ledger, pods, is_one_pod=not around.workers)
    return {name: _stepped(entry, pod_of(entry, pods), around) for name, entry in bound.items()}


def pod_of(entry: Entry, pods: Mapping[str, PodSight]) -> PodSight | None:
    """Return an engine's pod, None when it is gone, even if another has its name now."""
    sight = pods.get(entry.pod or "")
    return None if sight is None or (entry.uid is not None and sight.uid != entry.uid) else sight


def to_delete(
    ledger: Ledger, pods: Mapping[str, PodSight], around: Around, *, grace_s: int
) -> Sequence[tuple[str, int]]:
    """Return pods that are to go now, each with its seconds of grace: those of engines that are not wanted any more.

    One second rather than none: with none a server forgets the pod while its process may still hold the GPUs. None only
    where the node is lost: nobody would ever confirm the end there.
    """
    found = []
    for entry in ledger.values():
        if entry.is_wanted or entry.ended_at is not None:
            continue
        sight = pod_of(entry, pods)
        overdue = entry.failure is not None or (entry.drain_until is not None and around.now >= entry.drain_until)
        # The other parts of an engine that spans nodes end with their leader; here only once that is gone or overdue.
        going = [*([] if sight is None else [sight]), *(around.workers if sight is None or overdue else ())]
        for each in going:
            wanted = (0 if each.node in around.lost_nodes else 1) if overdue or each is not sight else grace_s
            if each.deleting_grace_s is None or each.deleting_grace_s > wanted:
                found.append((each.name, wanted))
    return found


def waits_for(entry: Entry, sight: PodSight | None, workers: Sequence[PodSight], refused_pods: str) -> str | None:
    """Return in words what holds an engine up, None when nothing does."""
    if entry.ended_at is not None or entry.ready_at is not None:
        return None
    if sight is None:
        return refused_pods or "waits for a pod"
    found = (_held_up(each) for each in (sight, *workers))
    return next(filter(None, found), None)


def _held_up(sight: PodSight) -> str:
    return f"{what_is_short(sight.unplaced)}: {sight.unplaced}" if sight.unplaced else sight.waiting_for


def _bound(ledger: Ledger, pods: Mapping[str, PodSight], *, is_one_pod: bool) -> Ledger:
    """Give every pod that no engine has to the engine that waits longest; a pod taken away unstarted is replaced.

    When replicas are lowered, a cluster takes those away first that are not ready yet, whatever they cost: its own
    engine still wants one then, and the pod that was meant to go is deleted by us. The parts of an engine that spans
    nodes are all deleted when one of them fails: that is no such thing.
    """
    entries: dict[EngineId, Entry] = {}
    for name, entry in ledger.items():
        was_moved = entry.is_wanted and entry.ready_at is None and _is_taken_away(entry, pods, is_one_pod=is_one_pod)
        entries[name] = entry.evolve(pod=None, uid=None, restarts=0) if was_moved else entry
    taken = {entry.pod for entry in entries.values()}
    free = [each for each in pods.values() if each.name not in taken and each.deleting_grace_s is None]
    for name, entry in entries.items():
        if free and entry.pod is None and entry.is_wanted:
            given = free.pop(0)
            entries[name] = entry.evolve(pod=given.name, uid=given.uid or None, restarts=given.restarts)
    return entries


def _is_taken_away(entry: Entry, pods: Mapping[str, PodSight], *, is_one_pod: bool) -> bool:
    """Say whether a pod is gone or going, by no doing of its own or of its node's."""
    sight = pod_of(entry, pods)
    if sight is None:
        return entry.pod is not None
    has_failed = sight.is_over or sight.restarts > entry.restarts or sight.disruption
    return is_one_pod and sight.deleting_grace_s is not None and not has_failed


def _stepped(entry: Entry, sight: PodSight | None, around: Around) -> Entry:
    if entry.ended_at is not None:
        return entry
    if not entry.is_wanted:
        return entry.evolve(ended_at=around.now) if sight is None and not around.workers else entry
    fault = _fault(entry, sight, around)
    if fault is not None:
        ended = {"ended_at": around.now} if sight is None and not around.workers else {}
        return entry.evolve(failure=fault.failure, detail=fault.detail, **ended)
    if sight is not None and sight.is_ready and entry.ready_at is None:
        return entry.evolve(ready_at=around.now, node=sight.node)
    return entry


def _fault(entry: Entry, sight: PodSight | None, around: Around) -> Fault | None:
    """Return why an engine is given up, None while there is hope. A part that failed says more than the rest."""
    waited = around.now - entry.started_at
    parts = (_fault_of_pod(entry.evolve(restarts=0), each, waited, around) for each in around.workers)
    of_a_part = next(filter(None, parts), None)
    if of_a_part is not None:
        return of_a_part
    return _without_pod(entry, waited, around) if sight is None else _fault_of_pod(entry, sight, waited, around)


def _fault_of_pod(entry: Entry, sight: PodSight, waited: timedelta, around: Around) -> Fault | None:
    if sight.node in around.lost_nodes:
        return Fault(StartFailure.NODE_LOST, f"node {sight.node} does not answer")
    if sight.is_over or sight.restarts > entry.restarts or sight.deleting_grace_s is not None:
        return _ended(entry, sight, around)
    return None if entry.ready_at is not None else _not_started(entry, sight, waited, around)


def _without_pod(entry: Entry, waited: timedelta, around: Around) -> Fault | None:
    if entry.node is not None and entry.node not in around.ready_nodes:
        return Fault(StartFailure.NODE_LOST, f"pod {entry.pod} is gone with node {entry.node}")
    if entry.pod is not None:  # one that had been ready: an unstarted one was replaced
        return Fault(StartFailure.CRASHED, f"pod {entry.pod} was deleted")
    if waited.total_seconds() < around.patience.place_s:
        return None
    why = around.refused_pods or "the cluster made no pod for it"
    return Fault(StartFailure.UNSCHEDULABLE, f"no pod within {around.patience.place_s:g} s: {why}")


def _ended(entry: Entry, sight: PodSight, around: Around) -> Fault:
    of_cluster = _turned_out(sight)
    if of_cluster is not None:
        return of_cluster
    if sight.exit_reason == "OOMKilled":
        detail = f"host memory: pod {sight.name} was killed on node {sight.node}, exit code {sight.exit_code}"
        return Fault(StartFailure.OUT_OF_MEMORY, detail)
    if sight.exit_code is None:
        return Fault(StartFailure.CRASHED, f"somebody deleted pod {sight.name}")
    if entry.ready_at is None and sight.ran_s is not None and sight.ran_s >= around.start_timeout_s:
        return _late(around)  # the start-up probe killed it while nobody looked
    return Fault(
        *diagnose(around.tail(sight), around.log, exit_code=sight.exit_code, was_ready=entry.ready_at is not None)
    )


def _turned_out(sight: PodSight) -> Fault | None:
    """Return why a cluster took a pod away, or its node did not take it; None when it ended by itself."""
    if sight.disruption:
        return Fault(StartFailure.NODE_LOST, f"the cluster took pod {sight.name} away: {sight.disruption}")
    if sight.exit_reason == "Evicted":
        return Fault(StartFailure.NODE_LOST, f"pod {sight.name} was evicted: {sight.exit_message}")
    if sight.is_over and sight.exit_code is None and sight.exit_reason:  # UnexpectedAdmissionError, OutOfcpu, ...
        said = f"node {sight.node} refused pod {sight.name}: {sight.exit_reason}: {sight.exit_message}"
        return Fault(StartFailure.UNSCHEDULABLE, said)
    return None


def _not_started(entry: Entry, sight: PodSight, waited: timedelta, around: Around) -> Fault | None:
    patience, waited_s = around.patience, waited.total_seconds()
    if sight.waiting in _NEVER_PULLED or (sight.waiting in _NOT_PULLED and waited_s >= patience.image_s):
        return Fault(StartFailure.IMAGE_PULL, sight.waiting_for)
    if sight.waiting in _NOT_MADE and waited_s >= patience.image_s:
        return Fault(StartFailure.OTHER, sight.waiting_for)
    if sight.unplaced and waited_s >= patience.place_s:
        said = f"{what_is_short(sight.unplaced)} within {patience.place_s:g} s: {sight.unplaced}"
        return Fault(StartFailure.UNSCHEDULABLE, said)
    if sight.running_since is None and waited_s >= patience.container_s:  # a volume that is not mounted is told nowhere
        said = f"no container on node {sight.node} within {patience.container_s:g} s"
        return Fault(StartFailure.UNSCHEDULABLE, f"{said}: {sight.waiting_for or 'nobody says why'}")
    return _too_late(entry, sight, around)


def _too_late(entry: Entry, sight: PodSight, around: Around) -> Fault | None:
    if sight.running_since is None:
        return None
    started = max(entry.started_at, sight.running_since)  # pulling the image is no start of the engine's
    if (around.now - started).total_seconds() < around.start_timeout_s:
        return None
    return _late(around)


def _late(around: Around) -> Fault:
    return Fault(StartFailure.TIMEOUT, f"not ready within {around.start_timeout_s:g} s")
