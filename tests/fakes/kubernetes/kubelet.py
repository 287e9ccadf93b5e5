"""A node whose pods are processes on loopback: a plain client of the API, for the stand-in and for a real server alike.

Every pod has an address of its own in 127/8, so that ports need not be changed. Times of the manifest (periods of
probes, back-off) pass `pace` times as fast; time-outs of probes do not: a busy machine is no dead engine.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, watch
from kubernetes.client.exceptions import ApiException

from tests.fakes.kubernetes.pod_life import STUB, PodLife, conditions

_MERGE = "application/merge-patch+json"
_TICK_S = 0.02
_HEARTBEAT_S = 5.0
_ERRORS = (ApiException, urllib3.exceptions.HTTPError, OSError)
_numbers = itertools.count(1)


class Kubelet:
    """One node until `stop`. `missing_images` cannot be pulled. One that `is_idle` runs no pods. It confirms the end
    of those that are deleted, whoever said that they run: not every fake kubelet does.
    """

    def __init__(
        self,
        api: client.ApiClient,
        folder: Path,
        *,
        name: str,
        gpus: int,
        labels: Mapping[str, str] | None = None,
        pace: float = 20.0,
        is_idle: bool = False,
        engine: Sequence[str] = STUB,
    ) -> None:
        self.name = name
        self.missing_images: set[str] = set()
        self._core = client.CoreV1Api(api)
        self._folder, self._pace, self._gpus, self._engine = folder, pace, gpus, engine
        of_gpus = {"nvidia.com/gpu.present": "true"} if gpus else {}
        self._labels = {"kubernetes.io/hostname": name, **of_gpus, **(labels or {})}
        self._news: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self._lives: dict[str, PodLife] = {}
        self._pods: dict[str, dict[str, Any]] = {}
        self._stopping = threading.Event()
        self._watching: watch.Watch | None = None
        self.is_lost = False
        self._register()
        self._threads = [
            threading.Thread(target=each, name=f"kubelet {name}: {each.__name__}", daemon=True)
            for each in self._duties(is_idle)
        ]
        for thread in self._threads:
            thread.start()

    def life(self, pod: str) -> PodLife:
        """Return the running life of a pod, by its name."""
        return next(life for life in list(self._lives.values()) if life.name == pod)

    def log(self, pod: str, *, previous: bool) -> str:
        found = next((life for life in list(self._lives.values()) if life.name == pod), None)
        return "" if found is None else found.log(previous=previous)

    def lose(self) -> None:
        """Let the node vanish from the network: its processes die and it says nothing more."""
        self.is_lost = True
        for life in list(self._lives.values()):
            life.kill()

    def stop(self) -> None:
        self._stopping.set()
        if self._watching is not None:
            self._watching.stop()  # type: ignore[no-untyped-call]
        for thread in self._threads:
            thread.join()
        for life in self._lives.values():
            life.kill()
        with contextlib.suppress(*_ERRORS):
            self._core.delete_node(self.name)

    def _duties(self, is_idle: bool) -> list[Callable[[], None]]:
        return [self._watch, self._bury if is_idle else self._work, self._beat]

    def _register(self) -> None:
        taints = [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}] if self._gpus else []
        node: dict[str, Any] = {"metadata": {"name": self.name, "labels": self._labels}, "spec": {"taints": taints}}
        self._core.create_node(client.V1Node.model_validate(node))
        self._say_ready()

    def _say_ready(self) -> None:
        amounts = {"nvidia.com/gpu": str(self._gpus), "cpu": "64", "memory": "512Gi", "pods": "250"}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "", **_times()}
        status = {"capacity": amounts, "allocatable": amounts, "conditions": [ready]}
        self._core.patch_node_status(self.name, {"status": status}, _content_type=_MERGE)

    def _beat(self) -> None:
        while not self._stopping.wait(_HEARTBEAT_S):
            if not self.is_lost:
                with contextlib.suppress(*_ERRORS):
                    self._say_ready()

    def _watch(self) -> None:
        mine, version = f"spec.nodeName={self.name}", None
        while not self._stopping.is_set():
            try:
                if version is None:
                    version = self._list(mine)
                self._watching = watch.Watch()  # type: ignore[no-untyped-call]
                stream = self._watching.stream(  # type: ignore[no-untyped-call]
                    self._core.list_pod_for_all_namespaces,
                    field_selector=mine,
                    resource_version=version,
                    timeout_seconds=2,
                    _request_timeout=10,
                )
                for event in stream:
                    self._news.put((event["type"], event["raw_object"]))
                    version = event["raw_object"]["metadata"]["resourceVersion"]
            except ApiException:
                version = None  # too old: list again
            except _ERRORS:
                self._stopping.wait(0.05)

    def _list(self, mine: str) -> str:
        answer = self._core.list_pod_for_all_namespaces(field_selector=mine)
        for pod in answer.items:
            self._news.put(("MODIFIED", self._core.api_client.sanitize_for_serialization(pod)))
        return "" if answer.metadata is None else str(answer.metadata.resource_version)

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._take_news()
            if not self.is_lost:
                for uid in list(self._pods):
                    with contextlib.suppress(*_ERRORS):
                        self._step(uid)
            time.sleep(_TICK_S)

    def _bury(self) -> None:
        while not self._stopping.wait(_TICK_S):
            self._take_news()
            for uid, pod in list(self._pods.items()):
                if pod["metadata"].get("deletionTimestamp"):
                    with contextlib.suppress(*_ERRORS):
                        self._let_go(uid, pod)

    def _take_news(self) -> None:
        while not self._news.empty():
            kind, pod = self._news.get()
            uid = pod["metadata"]["uid"]
            if kind == "DELETED":
                self._pods.pop(uid, None)
                if uid in self._lives:
                    self._lives.pop(uid).kill()
            else:
                self._pods[uid] = pod

    def _step(self, uid: str) -> None:
        pod = self._pods[uid]
        if uid not in self._lives:
            if pod["metadata"].get("deletionTimestamp"):
                self._let_go(uid, pod)
                return
            self._lives[uid] = self._born(pod)
        life = self._lives[uid]
        if pod["metadata"].get("deletionTimestamp"):
            if life.ended(grace_s=pod["metadata"].get("deletionGracePeriodSeconds", 0)):
                self._let_go(uid, pod)
            return
        status = life.step(has_image=pod["spec"]["containers"][0]["image"] not in self.missing_images)
        if status is not None and not self.is_lost:  # which may have come about just now
            told = {**status, "conditions": conditions(pod, status)}
            name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
            try:
                self._core.patch_namespaced_pod_status(name, namespace, {"status": told}, _content_type=_MERGE)
            except _ERRORS:
                life.forget_told()  # say it again
                raise

    def _born(self, pod: Mapping[str, Any]) -> PodLife:
        return PodLife(pod, self._folder, address=_address(), pace=self._pace, engine=self._engine)

    def _let_go(self, uid: str, pod: dict[str, Any]) -> None:
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        same = client.V1Preconditions(uid=uid)
        options = client.V1DeleteOptions(grace_period_seconds=0, preconditions=same)
        try:
            self._core.delete_namespaced_pod(name, namespace, body=options)
        except ApiException as error:
            if error.status not in (404, 409):
                raise
        self._pods.pop(uid, None)


def _times() -> dict[str, str]:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"lastHeartbeatTime": now, "lastTransitionTime": now}


def _address() -> str:
    """Return an address that no other pod of this machine has: by this process, then counted."""
    number, process = next(_numbers), os.getpid() % 32000
    return f"127.{1 + process // 250}.{1 + process % 250}.{1 + number % 250}"
