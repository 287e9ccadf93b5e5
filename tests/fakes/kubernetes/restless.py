"""Controllers that always have something to say: the status of workloads and routes changes all the time."""

from __future__ import annotations

from itertools import count

from tests.fakes.background import Background
from tests.fakes.kubernetes.errors import ApiError
from tests.fakes.kubernetes.objects import Objects
from tests.fakes.kubernetes.schemas import Object, resource_of
from tests.fakes.kubernetes.writes import Writer

_KINDS = [resource_of("apps/v1", "Deployment"), resource_of("apps/v1", "ReplicaSet"), resource_of("v1", "Pod")]
_BY = Writer(manager="restless", subresource="status")


class Restless(Background):
    """Writes every so many seconds until `stop`."""

    def __init__(self, objects: Objects, *, every_s: float) -> None:
        self._objects, self._every_s = objects, every_s
        self._begin()

    def _run(self) -> None:
        for number in count():
            if self._stopping.wait(self._every_s):
                return
            for resource in _KINDS:
                for each in self._objects.list(resource, shared=True):
                    self._touch(each, number)

    def _touch(self, value: Object, number: int) -> None:
        resource, metadata = resource_of(value["apiVersion"], value["kind"]), value["metadata"]
        said = {"type": "Restless", "status": "True", "reason": f"Again{number}"}

        def touched(live: Object) -> Object:
            status = live.get("status", {})
            others = [each for each in status.get("conditions", []) if each["type"] != said["type"]]
            needed = {"replicas": 0} if resource.kind == "ReplicaSet" else {}
            return {**live, "status": {**needed, **status, "conditions": [*others, said]}}

        try:
            self._objects.change(resource, metadata["namespace"], metadata["name"], touched, _BY)
        except ApiError:  # gone meanwhile
            return
