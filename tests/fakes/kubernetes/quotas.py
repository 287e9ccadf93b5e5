"""Resource quotas: what a namespace may hold at most, counted by a controller and asked by admission.

A quota that was just made is not counted yet: until it is, nothing that it is about is admitted. What was deleted is
counted until the controller looks again. Counted are pods and extended resources; of CPU and memory only that a pod
says them.
"""

from __future__ import annotations

from tests.fakes.kubernetes.errors import ApiError
from tests.fakes.kubernetes.objects import Objects
from tests.fakes.kubernetes.schemas import Object, resource_of
from tests.fakes.kubernetes.writes import Writer

_POD, _QUOTA = resource_of("v1", "Pod"), resource_of("v1", "ResourceQuota")
_STATUS = Writer(manager="kube-controller-manager", subresource="status")
_ADMITTED = Writer(manager="kube-apiserver", subresource="status")
_SAID = ("cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory")


class Quotas:
    """Counts in `run_pass`."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def run_pass(self) -> None:
        for quota in self._objects.list(_QUOTA, shared=True):
            namespace, hard = quota["metadata"]["namespace"], quota["spec"].get("hard", {})
            with self._objects.changed:
                live = [pod["spec"] for pod in self._objects.list(_POD, namespace, shared=True) if _counts(pod)]
                mine = [each for each in live if _is_about(quota, each)]
                used = {name: str(sum(asked(each, name) for each in mine)) for name in hard}
                if quota.get("status") != {"hard": hard, "used": used}:
                    _write(self._objects, quota, {"hard": hard, "used": used}, _STATUS)


def check_quotas(objects: Objects, namespace: str, name: str, pod: Object, *, dry_run: bool) -> None:
    """Count a pod that is to be made; one that is only tried is not counted.

    Raises ApiError when a quota of its namespace has no room for it.
    """
    with objects.changed:
        mine = [each for each in objects.list(_QUOTA, namespace, shared=True) if _is_about(each, pod)]
        counted = [(quota, _counted(quota, name, pod)) for quota in mine]
        for quota, used in counted if not dry_run else ():
            _write(objects, quota, {**quota["status"], "used": used}, _ADMITTED)


def asked(pod: Object, name: str) -> int:
    """Return how much of what a quota limits a pod asks for."""
    if name == "pods":
        return 1
    resource = name.removeprefix("requests.")
    if "/" not in resource:
        return 0
    amounts = (each.get("resources", {}).get("limits", {}).get(resource, 0) for each in pod["containers"])
    return sum(int(amount) for amount in amounts)


def _counted(quota: Object, name: str, pod: Object) -> Object:
    """Return what is used once the pod is there. Raises ApiError."""
    of, hard, status = quota["metadata"]["name"], quota["spec"].get("hard", {}), quota.get("status", {})
    unsaid = [each for each in hard if each in _SAID and not _says(pod, each)]
    if unsaid:
        named = ", ".join(each["name"] for each in pod["containers"])
        raise _forbidden(name, f"failed quota: {of}: must specify {','.join(unsaid)} for: {named}")
    mine = {each: amount for each in hard if (amount := asked(pod, each))}
    unknown = [each for each in mine if each not in status.get("hard", {})]
    if unknown:
        raise _forbidden(name, f"status unknown for quota: {of}, resources: {','.join(sorted(unknown))}")
    used = {each: int(status["used"].get(each, 0)) + mine.get(each, 0) for each in status["used"]}
    over = [each for each in mine if used[each] > int(hard[each])]
    if over:
        words = (("requested", mine), ("used", status["used"]), ("limited", hard))
        told = ((what, ",".join(f"{each}={how[each]}" for each in over)) for what, how in words)
        raise _forbidden(name, f"exceeded quota: {of}, " + ", ".join(f"{what}: {said}" for what, said in told))
    return {each: str(amount) for each, amount in used.items()}


def _says(pod: Object, name: str) -> bool:
    part, resource = ("requests", name) if "." not in name else name.split(".")
    parts = ("limits",) if part == "limits" else ("requests", "limits")  # what is not asked for is asked as its limit
    amounts = [each.get("resources", {}) for each in pod["containers"]]
    return all(any(resource in each.get(part, {}) for part in parts) for each in amounts)


def _counts(pod: Object) -> bool:
    """One that is being deleted counts until it is gone."""
    return pod.get("status", {}).get("phase") not in ("Failed", "Succeeded")


def _is_about(quota: Object, pod: Object) -> bool:
    """Say whether a quota is about pods like this: by priority class, the only scope known here."""
    scopes = quota["spec"].get("scopeSelector", {}).get("matchExpressions", [])
    return all(pod.get("priorityClassName") in each.get("values", []) for each in scopes)


def _write(objects: Objects, quota: Object, status: Object, by: Writer) -> None:
    metadata = quota["metadata"]
    try:
        objects.change(_QUOTA, metadata["namespace"], metadata["name"], lambda v: {**v, "status": status}, by)
    except ApiError:  # deleted meanwhile
        return


def _forbidden(name: str, why: str) -> ApiError:
    return ApiError(403, f'pods "{name}" is forbidden: {why}')
