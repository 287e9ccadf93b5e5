"""What controllers say of Deployments and replica sets: numbers that are nothing are not said at all."""

from __future__ import annotations

from collections.abc import Sequence

from tests.fakes.kubernetes.schemas import Object
from tests.fakes.kubernetes.writes import now

_FAILURE = "ReplicaFailure"


def status_of_deployment(deployment: Object, current: Object | None) -> Object:
    """Return the status of a Deployment whose present replica set is this."""
    seen, wanted = (current or {}).get("status", {}), deployment["spec"]["replicas"]
    replicas, ready = seen.get("replicas", 0), seen.get("readyReplicas", 0)
    numbers = {
        "replicas": replicas,
        "updatedReplicas": replicas,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": max(0, wanted - ready),
    }
    failing = [each for each in seen.get("conditions", []) if each["type"] == _FAILURE]
    before = deployment.get("status", {}).get("conditions", [])
    conditions = [*_progress(wanted, ready, current), *failing]
    return {
        "observedGeneration": deployment["metadata"]["generation"],
        **{name: number for name, number in numbers.items() if number},
        "conditions": [_since(each, before) for each in conditions],
    }


def status_of_replica_set(replica_set: Object, pods: Sequence[Object], failure: str) -> Object:
    """Return the status of a replica set with these pods; `failure` is why one was not made, "" when all were."""
    ready = sum(map(is_ready, pods))
    told = {"readyReplicas": ready, "availableReplicas": ready, "fullyLabeledReplicas": len(pods)}
    condition = {"type": _FAILURE, "status": "True", "reason": "FailedCreate", "message": failure}
    before = replica_set.get("status", {}).get("conditions", [])
    return {
        "replicas": len(pods),
        "observedGeneration": replica_set["metadata"]["generation"],
        **{name: number for name, number in told.items() if number},
        **({"conditions": [_since(condition, before)]} if failure else {}),
    }


def is_ready(pod: Object) -> bool:
    return any((c["type"], c["status"]) == ("Ready", "True") for c in pod.get("status", {}).get("conditions", []))


def _progress(wanted: int, ready: int, current: Object | None) -> list[Object]:
    is_enough = ready >= wanted
    available = {
        "type": "Available",
        "status": "True" if is_enough else "False",
        "reason": "MinimumReplicasAvailable" if is_enough else "MinimumReplicasUnavailable",
        "message": f"Deployment {'has' if is_enough else 'does not have'} minimum availability.",
    }
    name = "" if current is None else current["metadata"]["name"]
    reason = "NewReplicaSetAvailable" if is_enough else "ReplicaSetUpdated"
    reason = "NewReplicaSetCreated" if current is None else reason
    said = f'ReplicaSet "{name}" {"has successfully progressed" if is_enough else "is progressing"}.'
    return [available, {"type": "Progressing", "status": "True", "reason": reason, "message": said}]


def _since(condition: Object, before: Sequence[Object]) -> Object:
    """Return a condition with the times at which it became so: its first message stays while it holds."""
    same = next((each for each in before if each["type"] == condition["type"]), None)
    if same is not None and (same["status"], same["reason"]) == (condition["status"], condition["reason"]):
        return same
    moment = now()
    of_deployment = {} if condition["type"] == _FAILURE else {"lastUpdateTime": moment}
    return {**condition, **of_deployment, "lastTransitionTime": moment}
