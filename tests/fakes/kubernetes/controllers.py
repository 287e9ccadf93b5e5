"""What a controller manager and a scheduler do for Deployments: replica sets, pods, nodes for them, and cleaning up.

Level-triggered: whenever anything changed, everything is looked at again until nothing is left to do.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from typing import Any

from tests.fakes.kubernetes.admission import admitted_pod
from tests.fakes.kubernetes.backing_off import BackingOff
from tests.fakes.kubernetes.endpoint_slices import EndpointSlices
from tests.fakes.kubernetes.errors import ApiError
from tests.fakes.kubernetes.garbage import GarbageCollector
from tests.fakes.kubernetes.jobs import TRACKED, JobController
from tests.fakes.kubernetes.objects import Objects
from tests.fakes.kubernetes.quotas import Quotas
from tests.fakes.kubernetes.scheduler import Scheduler
from tests.fakes.kubernetes.schemas import Object, resource_of
from tests.fakes.kubernetes.selection import selected
from tests.fakes.kubernetes.sets import SetController
from tests.fakes.kubernetes.statuses import is_ready, status_of_deployment, status_of_replica_set
from tests.fakes.kubernetes.surroundings import Surroundings
from tests.fakes.kubernetes.writes import Writer

_DEPLOYMENT = resource_of("apps/v1", "Deployment")
_REPLICA_SET = resource_of("apps/v1", "ReplicaSet")
_POD = resource_of("v1", "Pod")
_STATUS = Writer(manager="kube-controller-manager", subresource="status")
_SPEC = Writer(manager="kube-controller-manager")
_COST = "controller.kubernetes.io/pod-deletion-cost"


class Controllers:
    """A thread that makes the objects true until `stop`, so many seconds after they changed."""

    def __init__(self, objects: Objects, *, lag_s: float = 0.0) -> None:
        self._objects, self._lag_s = objects, lag_s
        self._sets, self._jobs = SetController(objects), JobController(objects, self._create_pod)
        self._surroundings, self._slices = Surroundings(objects), EndpointSlices(objects)
        self._quotas, self._backing_off = Quotas(objects), BackingOff()
        self._scheduler, self.garbage = Scheduler(objects), GarbageCollector(objects)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        with self._objects.changed:
            self._objects.changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        done = -1
        while not self._stopping.is_set():
            version = self._objects.version
            if version != done and not self._stopping.wait(self._lag_s):
                self.run_pass()
                done = version
            with self._objects.changed:
                if self._objects.version == done:
                    self._objects.changed.wait(0.1)
            done = -1 if self._backing_off.is_due or self.garbage.is_due else done

    def run_pass(self) -> None:
        """Look at everything once. Another look is needed when this changed something."""
        self._surroundings.run_pass()
        self._quotas.run_pass()
        around = (self._sets.run_pass, self._scheduler.run_pass, self._slices.run_pass, self.garbage.run_pass)
        for act in (self._deployments, self._replica_sets, self._jobs.run_pass, *around):
            act()

    def _deployments(self) -> None:
        owned = _by_owner(self._objects.list(_REPLICA_SET, shared=True))
        for deployment in self._objects.list(_DEPLOYMENT, shared=True):
            if not deployment["metadata"].get("deletionTimestamp"):
                self._deployment(deployment, owned.get(deployment["metadata"]["uid"], []))

    def _deployment(self, deployment: Object, mine: Sequence[Object]) -> None:
        template = deployment["spec"]["template"]
        # A real one counts collisions with replica sets of a Deployment of that name before it: the uid does here.
        whole = json.dumps([template, deployment["metadata"]["uid"]], sort_keys=True)
        digest = hashlib.sha256(whole.encode()).hexdigest()[:10]
        name, replicas = f"{deployment['metadata']['name']}-{digest}", deployment["spec"]["replicas"]
        old = [each for each in mine if each["metadata"]["name"] != name]
        current = next((each for each in mine if each["metadata"]["name"] == name), None)
        for each in old:
            self._scale(each, 0)
        if current is None and not any(each.get("status", {}).get("replicas") for each in old):
            self._create_replica_set(deployment, name, digest)
        elif current is not None:
            self._scale(current, replicas)
        self._report(deployment, current)

    def _create_replica_set(self, deployment: Object, name: str, digest: str) -> None:
        template = json.loads(json.dumps(deployment["spec"]["template"]))
        template["metadata"]["labels"]["pod-template-hash"] = digest
        labels = template["metadata"]["labels"]
        selector = {"matchLabels": {**deployment["spec"]["selector"]["matchLabels"], "pod-template-hash": digest}}
        value = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {"name": name, "labels": labels, "ownerReferences": [_owner(deployment)]},
            "spec": {"replicas": deployment["spec"]["replicas"], "selector": selector, "template": template},
        }
        self._try(lambda: self._objects.create(_REPLICA_SET, deployment["metadata"]["namespace"], value, _SPEC))

    def _scale(self, replica_set: Object, replicas: int) -> None:
        if replica_set["spec"]["replicas"] != replicas:
            self._write(_REPLICA_SET, replica_set, lambda v: {**v, "spec": {**v["spec"], "replicas": replicas}}, _SPEC)

    def _report(self, deployment: Object, current: Object | None) -> None:
        status = status_of_deployment(deployment, current)
        noted = {**deployment["metadata"].get("annotations", {}), "deployment.kubernetes.io/revision": "1"}
        if status != deployment.get("status") or noted != deployment["metadata"].get("annotations"):
            self._write(_DEPLOYMENT, deployment, lambda value: _reported(value, status), _STATUS)

    def _replica_sets(self) -> None:
        owned = _by_owner(self._objects.list(_POD, shared=True))
        present = self._objects.list(_REPLICA_SET, shared=True)
        self._backing_off.keep({each["metadata"]["uid"] for each in present})
        for each in present:
            if not each["metadata"].get("deletionTimestamp"):
                self._replica_set(each, [p for p in owned.get(each["metadata"]["uid"], []) if _is_active(p)])

    def _replica_set(self, replica_set: Object, pods: Sequence[Object]) -> None:
        # A pod that was given other labels is let go of: it is nobody's then.
        mine = [p for p in pods if selected(p["metadata"].get("labels", {}), replica_set["spec"]["selector"])]
        missing = replica_set["spec"]["replicas"] - len(mine)
        failure = self._fill(replica_set, missing, len(mine))
        for pod in sorted(mine, key=_first_to_go)[: max(0, -missing)]:
            name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
            self._try(lambda n=name, ns=namespace: self._objects.delete(_POD, ns, n))
        status = status_of_replica_set(replica_set, mine, failure)
        if status != replica_set.get("status"):
            self._write(_REPLICA_SET, replica_set, lambda value: {**value, "status": status}, _STATUS)

    def _fill(self, replica_set: Object, missing: int, present: int) -> str:
        """Make missing pods, unless that was refused a moment ago; return why not all are there, "" when they are."""
        metadata, failure = replica_set["metadata"], ""
        seen = (metadata["generation"], present)
        if missing > 0 and (held := self._backing_off.holds(metadata["uid"], seen)):
            return held
        for _ in range(missing):
            failure = failure or self._create_pod(replica_set)
        self._backing_off.note(metadata["uid"], seen, failure)
        return failure

    def _create_pod(self, owner: Object) -> str:
        """Return why a pod may not be created, nothing when it was."""
        namespace, template = owner["metadata"]["namespace"], owner["spec"]["template"]
        value = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **template["metadata"],
                "generateName": f"{owner['metadata']['name']}-",
                "ownerReferences": [_owner(owner)],
                **({"finalizers": [TRACKED]} if owner["kind"] == "Job" else {}),
            },
            "spec": template["spec"],
        }
        try:
            with self._objects.changed:
                self._objects.create(_POD, namespace, admitted_pod(self._objects, namespace, value), _SPEC)
        except ApiError as error:
            return error.message
        return ""

    def _write(self, resource: Any, value: Object, change: Any, by: Writer) -> None:
        metadata = value["metadata"]
        self._try(lambda: self._objects.change(resource, metadata["namespace"], metadata["name"], change, by))

    def _try(self, act: Any) -> None:
        """What was changed or deleted meanwhile is looked at again in the next pass."""
        try:
            act()
        except ApiError:
            return


def _reported(deployment: Object, status: Object) -> Object:
    """Return a Deployment with its status, and with what its controller notes on it in the same write."""
    metadata = deployment["metadata"]
    noted = {**metadata.get("annotations", {}), "deployment.kubernetes.io/revision": "1"}
    return {**deployment, "metadata": {**metadata, "annotations": noted}, "status": status}


def _is_active(pod: Object) -> bool:
    over = pod.get("status", {}).get("phase") in ("Failed", "Succeeded")
    return not over and not pod["metadata"].get("deletionTimestamp")


def _first_to_go(pod: Object) -> tuple[object, ...]:
    """The order in which a ReplicaSet sends pods away: unassigned, pending, not ready, cheap, young."""
    phases = {"Pending": 0, "Unknown": 1, "Running": 2}
    cost = int(pod["metadata"].get("annotations", {}).get(_COST, 0))
    age = [-ord(letter) for letter in pod["metadata"]["creationTimestamp"]]
    phase = phases.get(pod.get("status", {}).get("phase", "Pending"), 2)
    return bool(pod["spec"].get("nodeName")), phase, is_ready(pod), cost, age


def _by_owner(values: Sequence[Object]) -> dict[str, list[Object]]:
    found: dict[str, list[Object]] = {}
    for value in values:
        for owner in value["metadata"].get("ownerReferences", []):
            found.setdefault(owner["uid"], []).append(value)
    return found


def _owner(value: Object) -> Object:
    metadata = value["metadata"]
    shown = {"apiVersion": value["apiVersion"], "kind": value["kind"]}
    return {**shown, "name": metadata["name"], "uid": metadata["uid"], "controller": True, "blockOwnerDeletion": True}
