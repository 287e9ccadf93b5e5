"""What a controller manager does for Jobs. Those of our load generators have pods that run; all others are said to be
done and never run: their images are not here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.fakes.kubernetes.errors import ApiError
from tests.fakes.kubernetes.objects import Objects
from tests.fakes.kubernetes.schemas import Object, resource_of
from tests.fakes.kubernetes.writes import Writer

GENERATOR = ["python", "-m", "loadtests.generator"]
TRACKED = "batch.kubernetes.io/job-tracking"
"""The finalizer of a Job's pods: none goes before it was counted."""
_JOB = resource_of("batch/v1", "Job")
_POD = resource_of("v1", "Pod")
_STATUS = Writer(manager="kube-controller-manager", subresource="status")
_SPEC = Writer(manager="kube-controller-manager")


class JobController:
    """Looks at every Job in `run_pass`. `create_pod` makes one of an owner's template; it says why it did not."""

    def __init__(self, objects: Objects, create_pod: Callable[[Object], str]) -> None:
        self._objects, self._create_pod = objects, create_pod

    def run_pass(self) -> None:
        pods = self._objects.list(_POD, shared=True)
        self._count(pods)
        for job in self._objects.list(_JOB, shared=True):
            if job["metadata"].get("deletionTimestamp"):
                continue
            if is_run(job["spec"]["template"]["spec"]):
                self._go_on(job, [each for each in pods if _owns(job, each)])
            elif not job.get("status"):
                done = [
                    {"type": name, "status": "True", "reason": "NotRun"} for name in ("SuccessCriteriaMet", "Complete")
                ]
                self._write(job, {"succeeded": 1, "conditions": done})

    def _go_on(self, job: Object, pods: Sequence[Object]) -> None:
        """Replace what failed, up to the limit; nothing more once one of them is done."""
        phases = [each.get("status", {}).get("phase", "Pending") for each in pods]
        failed, succeeded = phases.count("Failed"), phases.count("Succeeded")
        active = [each for each in pods if _is_active(each)]
        may_go_on = not succeeded and failed <= job["spec"].get("backoffLimit", 6)
        if may_go_on and len(active) < job["spec"].get("parallelism", 1):
            self._create_pod(job)
        status = {"active": len(active), "failed": failed, "succeeded": succeeded}
        if status != job.get("status"):
            self._write(job, status)

    def _count(self, pods: Sequence[Object]) -> None:
        """Let go of pods that are over, being deleted, or of a Job that is no more."""
        jobs = {job["metadata"]["uid"] for job in self._objects.list(_JOB, shared=True)}
        for pod in pods:
            metadata = pod["metadata"]
            is_orphan = all(each["uid"] not in jobs for each in metadata.get("ownerReferences", []))
            if TRACKED not in metadata.get("finalizers", []) or (_is_active(pod) and not is_orphan):
                continue
            try:
                self._objects.change(_POD, metadata["namespace"], metadata["name"], _counted, _SPEC)
            except ApiError:  # gone meanwhile
                continue

    def _write(self, job: Object, status: Object) -> None:
        metadata = job["metadata"]
        try:
            self._objects.change(
                _JOB, metadata["namespace"], metadata["name"], lambda value: {**value, "status": status}, _STATUS
            )
        except ApiError:  # deleted meanwhile
            return


def is_run(pod: Object) -> bool:
    """Say whether a pod's program is here: one of our load generators."""
    command: list[str] = pod["containers"][0].get("command", [])
    return command[:3] == GENERATOR


def _counted(pod: Object) -> Object:
    left = [each for each in pod["metadata"].get("finalizers", []) if each != TRACKED]
    return {**pod, "metadata": {**pod["metadata"], "finalizers": left}}


def _owns(job: Object, pod: Object) -> bool:
    return any(each["uid"] == job["metadata"]["uid"] for each in pod["metadata"].get("ownerReferences", []))


def _is_active(pod: Object) -> bool:
    over = pod.get("status", {}).get("phase") in ("Failed", "Succeeded")
    return not over and not pod["metadata"].get("deletionTimestamp")
