"""Somebody else's fake kubelet: lets every pod that has a node be ready at an address where nobody answers.

As a cluster without machines does (KWOK, hollow nodes). A plain client of the API.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import urllib3
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from tests.fakes.background import Background

_MERGE = "application/merge-patch+json"
_EVERY_S = 0.1
_ERRORS = (ApiException, urllib3.exceptions.HTTPError, OSError)


class SilentKubelet(Background):
    """Serves the pods of every node until `stop`; one that `ends_pods` confirms the end of those deleted."""

    def __init__(self, api: client.ApiClient, *, ends_pods: bool = True) -> None:
        self._core, self._ends_pods = client.CoreV1Api(api), ends_pods
        self._addresses: dict[str, str] = {}
        self._begin()

    def _run(self) -> None:
        while not self._stopping.wait(_EVERY_S):
            with contextlib.suppress(*_ERRORS):
                for pod in self._core.list_pod_for_all_namespaces().items:
                    with contextlib.suppress(*_ERRORS):
                        self._serve(pod)

    def _serve(self, pod: Any) -> None:
        name, namespace = pod.metadata.name, pod.metadata.namespace
        if pod.metadata.deletion_timestamp is not None:
            if self._ends_pods:
                self._core.delete_namespaced_pod(name, namespace, grace_period_seconds=0)
        elif pod.spec.node_name and (pod.status is None or pod.status.phase in (None, "Pending")):
            status = _running(pod, self._address(pod.metadata.uid))
            self._core.patch_namespaced_pod_status(name, namespace, {"status": status}, _content_type=_MERGE)

    def _address(self, uid: str) -> str:
        number = len(self._addresses)
        return self._addresses.setdefault(uid, f"10.255.{number // 250}.{1 + number % 250}")


def _running(pod: Any, address: str) -> dict[str, Any]:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    kinds = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    statuses = [
        {
            **{"name": each.name, "image": each.image, "imageID": "", "ready": True, "started": True},
            **{"restartCount": 0, "state": {"running": {"startedAt": now}}, "lastState": {}},
        }
        for each in pod.spec.containers
    ]
    return {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in kinds],
        "containerStatuses": statuses,
    }
